//! A server of Azure's blob protocol.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::{Server, installed};

/// Azurite's well-known account.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Makes the container, by a request signed with the account's key.
const MAKE_CONTAINER: &str = "
    const [uri, account, key] = process.argv.slice(1);
    const date = new Date().toUTCString(), version = '2021-08-06';
    const text = `PUT${'\\n'.repeat(12)}x-ms-date:${date}\\nx-ms-version:${version}\\n/${account}/${account}/warehouse\\nrestype:container`;
    const hmac = require('crypto').createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');
    const headers = { 'x-ms-date': date, 'x-ms-version': version, Authorization: `SharedKey ${account}:${hmac}` };
    fetch(`${uri}/${account}/warehouse?restype=container`, { method: 'PUT', headers })
        .then(async answer => { if (!answer.ok) { console.error(await answer.text()); process.exit(1); } });";

/// Azurite, from the npm registry.
pub(crate) struct AzureServer {
    server: Server,
}

impl AzureServer {
    pub(crate) fn start(folder: &Path) -> Option<AzureServer> {
        let script = installed(
            "MOONSHINE_TEST_AZURITE",
            "test-servers/node_modules/azurite/dist/src/blob/main.js",
        )?;
        let node = installed("MOONSHINE_TEST_NODE", "test-servers/node")?;
        let server = Server::start(&folder.join("azurite.log"), |port| {
            let mut command = Command::new(&node);
            command
                .arg(script)
                .args([
                    "--blobHost",
                    "127.0.0.1",
                    "--skipApiVersionCheck",
                    "--silent",
                ])
                .args(["--blobPort", &port.to_string(), "--location"])
                .arg(folder);
            command
        });
        let made = Command::new(node)
            .args(["-e", MAKE_CONTAINER, &server.uri(), ACCOUNT, KEY])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Some(AzureServer { server })
    }

    /// The container's location.
    pub(crate) fn container(&self) -> String {
        format!("abfss://warehouse@{ACCOUNT}.dfs.core.windows.net")
    }

    /// How it is reached.
    pub(crate) fn properties(&self) -> BTreeMap<String, String> {
        let connection = format!(
            "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={}/{ACCOUNT};",
            self.server.uri()
        );
        [("adls.connection-string".to_owned(), connection)].into()
    }
}
