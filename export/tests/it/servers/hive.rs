//! A Hive metastore.

use std::path::Path;
use std::process::Command;

use super::{Server, installed};

/// Apache Hive's own, which keeps its tables in memory.
pub(crate) struct HiveServer {
    server: Server,
}

impl HiveServer {
    pub(crate) fn start(folder: &Path) -> Option<HiveServer> {
        let programs = installed("MOONSHINE_TEST_HIVE", "test-servers/hive")?;
        std::fs::create_dir_all(folder).unwrap();
        let warehouse = folder.join("warehouse");
        let settings = [
            (
                "javax.jdo.option.ConnectionURL",
                "jdbc:derby:memory:metastore;create=true",
            ),
            (
                "javax.jdo.option.ConnectionDriverName",
                "org.apache.derby.jdbc.EmbeddedDriver",
            ),
            ("datanucleus.schema.autoCreateAll", "true"),
            ("metastore.schema.verification", "false"),
            ("metastore.hmshandler.retry.interval", "100ms"),
            ("metastore.event.db.notification.api.auth", "false"),
            ("metastore.warehouse.dir", warehouse.to_str().unwrap()),
        ];
        let property = |(name, value): (&str, &str)| {
            format!("<property><name>{name}</name><value>{value}</value></property>")
        };
        let settings: String = settings.into_iter().map(property).collect();
        let site = folder.join("metastore-site.xml");
        std::fs::write(site, format!("<configuration>{settings}</configuration>")).unwrap();
        let path = format!("{}:{}/*", folder.display(), programs.display());
        let server = Server::start(&folder.join("hive.log"), |port| {
            let mut command = Command::new("java");
            command
                .args(["-Xmx512m", "-XX:TieredStopAtLevel=1"])
                // Of two who change a table one waits for the other, and its database takes its time to see that.
                .args([
                    "-Dderby.locks.deadlockTimeout=1",
                    "-Dderby.locks.waitTimeout=2",
                ])
                .args(["-cp", &path])
                .args(["org.apache.hadoop.hive.metastore.HiveMetaStore", "-p"])
                .arg(port.to_string())
                .current_dir(folder);
            command
        });
        Some(HiveServer { server })
    }

    pub(crate) fn uri(&self) -> String {
        format!("thrift://127.0.0.1:{}", self.server.port)
    }
}
