//! A registry inside a program: what the tests of something that pushes and pulls would do.
//!
//! ```text
//! cargo run --example embed
//! ```

use coracle::Registry;
use oci_client::client::{Client, ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::manifest::IMAGE_LAYER_MEDIA_TYPE;
use oci_client::secrets::RegistryAuth;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In a directory of its own, which goes when the registry goes. A user owns the repositories under
    // the own name.
    let registry = Registry::builder().temporary().user("alice", "secret").open()?;
    // On a free port of this machine; it accepts connections when this returns.
    let running = registry.spawn_local().await?;

    // Any client will do.
    let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let alice = RegistryAuth::Basic("alice".to_owned(), "secret".to_owned());
    let image = format!("{}/alice/hello:1", running.address()).parse()?;

    let layer = ImageLayer::oci_v1("Hello!", None);
    client.push(&image, &[layer], Config::oci_v1("{}", None), &alice, None).await?;
    let pulled = client.pull(&image, &alice, vec![IMAGE_LAYER_MEDIA_TYPE]).await?;
    assert_eq!(pulled.layers[0].data, "Hello!");
    println!("pushed and pulled {image}");

    // Lets requests finish that still run. Dropping `running` would stop it at once.
    running.shutdown().await;
    Ok(())
}
