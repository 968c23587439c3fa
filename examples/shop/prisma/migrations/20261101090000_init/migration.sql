CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item text NOT NULL,
    release text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
