//! What well-known images and ports are. Lists only; what follows from them is decided elsewhere.

/// An image that keeps something which there must be one of.
pub struct Keeper {
    /// The name of the image, or a part of it.
    pub image: &'static str,
    /// What people call it.
    pub called: &'static str,
}

/// Databases, queues, caches and the like. The first match wins, so longer names come first.
const KEEPERS: [Keeper; 40] = [
    keeper("postgis", "PostgreSQL with PostGIS"),
    keeper("timescaledb", "TimescaleDB"),
    keeper("pgvector", "PostgreSQL with pgvector"),
    keeper("postgresql", "PostgreSQL"),
    keeper("postgres", "PostgreSQL"),
    keeper("pgbouncer", "PgBouncer"),
    keeper("mysql", "MySQL"),
    keeper("mariadb", "MariaDB"),
    keeper("percona", "MySQL"),
    keeper("mongo", "MongoDB"),
    keeper("redis", "Redis"),
    keeper("valkey", "Valkey"),
    keeper("keydb", "KeyDB"),
    keeper("dragonfly", "Dragonfly"),
    keeper("memcached", "Memcached"),
    keeper("rabbitmq", "RabbitMQ"),
    keeper("nats", "NATS"),
    keeper("mosquitto", "Mosquitto"),
    keeper("zookeeper", "ZooKeeper"),
    keeper("kafka", "Kafka"),
    keeper("redpanda", "Redpanda"),
    keeper("etcd", "etcd"),
    keeper("consul", "Consul"),
    keeper("vault", "Vault"),
    keeper("elasticsearch", "Elasticsearch"),
    keeper("opensearch", "OpenSearch"),
    keeper("meilisearch", "Meilisearch"),
    keeper("typesense", "Typesense"),
    keeper("qdrant", "Qdrant"),
    keeper("weaviate", "Weaviate"),
    keeper("milvus", "Milvus"),
    keeper("clickhouse", "ClickHouse"),
    keeper("cassandra", "Cassandra"),
    keeper("scylla", "ScyllaDB"),
    keeper("influxdb", "InfluxDB"),
    keeper("victoria-metrics", "VictoriaMetrics"),
    keeper("couchdb", "CouchDB"),
    keeper("neo4j", "Neo4j"),
    keeper("minio", "MinIO"),
    keeper("seaweedfs", "SeaweedFS"),
];

const fn keeper(image: &'static str, called: &'static str) -> Keeper {
    Keeper { image, called }
}

/// What an image keeps, if it is known to keep something.
#[must_use]
pub fn keeper_of(image: &str) -> Option<&'static Keeper> {
    let helper = ["exporter", "backup", "express", "commander", "ui", "admin"];
    let is_helper = image.split(['-', '_']).any(|part| helper.contains(&part));
    KEEPERS.iter().find(|keeper| !is_helper && image.contains(keeper.image))
}

/// Folders in which servers keep their data.
#[must_use]
pub fn is_data_folder(target: &str) -> bool {
    let folders = [
        "/var/lib/postgresql",
        "/var/lib/mysql",
        "/var/lib/mongodb",
        "/data/db",
        "/var/lib/redis",
        "/var/lib/rabbitmq",
        "/var/lib/clickhouse",
        "/var/lib/cassandra",
        "/var/lib/influxdb",
        "/var/lib/elasticsearch",
        "/usr/share/elasticsearch/data",
        "/bitnami",
    ];
    folders.iter().any(|folder| target.starts_with(folder))
}

/// Balancers that Cutover takes the place of.
#[must_use]
pub fn is_balancer(image: &str) -> bool {
    ["traefik", "nginx-proxy", "haproxy", "caddy-docker-proxy", "acme-companion"]
        .iter()
        .any(|name| image.contains(name))
}

/// What is spoken on a well-known port that is not HTTP.
#[must_use]
pub fn spoken_on(port: u16) -> Option<&'static str> {
    Some(match port {
        21 => "FTP",
        22 | 2222 => "SSH",
        25 | 465 | 587 | 1025 => "mail",
        53 => "DNS",
        443 | 8443 => "HTTPS",
        1883 | 8883 => "MQTT",
        3306 => "MySQL",
        4222 => "NATS",
        5432 => "PostgreSQL",
        5672 => "AMQP",
        6379 => "Redis",
        9092 => "Kafka",
        11211 => "Memcached",
        27017 => "MongoDB",
        _ => return None,
    })
}

/// Ports of debuggers: Node, the JVM, Python, Go.
#[must_use]
pub fn is_debugger(port: u16) -> bool {
    matches!(port, 9229 | 5005 | 5678 | 2345 | 40_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepers_are_known_by_name_and_their_helpers_are_not() {
        let called = |image: &str| keeper_of(image).map(|keeper| keeper.called);
        assert_eq!(called("postgres"), Some("PostgreSQL"));
        assert_eq!(called("postgis"), Some("PostgreSQL with PostGIS"));
        assert_eq!(called("cp-kafka"), Some("Kafka"));
        assert_eq!(called("mongo-express"), None);
        assert_eq!(called("postgres_exporter"), None);
        assert_eq!(called("shop-backend"), None);
    }
}
