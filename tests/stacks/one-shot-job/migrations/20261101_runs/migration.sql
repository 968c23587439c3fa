CREATE TABLE runs (at timestamptz NOT NULL DEFAULT now());
