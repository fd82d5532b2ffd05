//! Facts of manifests as common tools write them, and of hostile ones.

use serde_json::{Value, json};

use super::*;
use crate::oci::{Algorithm, MediaType};

const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn descriptor(media_type: &str) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(Algorithm::Sha256, media_type.as_bytes()).to_string(), "size": 1 })
}

fn manifest(config: &str, layers: &[&str]) -> Value {
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(layer)).collect();
    json!({ "schemaVersion": 2, "config": descriptor(config), "layers": layers })
}

fn with(mut manifest: Value, field: &str, value: Value) -> Value {
    manifest[field] = value;
    manifest
}

fn draft(manifest: &Value) -> Draft {
    let bytes = serde_json::to_vec(manifest).unwrap();
    Draft::read(&Manifest::read(&bytes, None).unwrap(), &bytes)
}

fn facts(manifest: &Value, config: &Value) -> (Facts, Details) {
    draft(manifest).finish(Some(&serde_json::to_vec(config).unwrap()))
}

#[test]
fn the_kind_follows_from_the_types() {
    const BUNDLE: &str = "dev.sigstore.bundle.content";
    let bundle = |content: &str, predicate: &str| {
        let manifest =
            with(manifest(EMPTY, &["a/b"]), "artifactType", json!("application/vnd.dev.sigstore.bundle.v0.3+json"));
        with(manifest, "annotations", json!({ BUNDLE: content, "dev.sigstore.bundle.predicateType": predicate }))
    };
    let artifact = |kind: &str| with(manifest(EMPTY, &[EMPTY]), "artifactType", json!(kind));
    let docker = with(
        manifest(
            "application/vnd.docker.container.image.v1+json",
            &["application/vnd.docker.image.rootfs.diff.tar.gzip"],
        ),
        "mediaType",
        json!(MediaType::DOCKER_MANIFEST),
    );
    let cases = [
        (manifest(IMAGE_CONFIG, &[LAYER, LAYER]), Kind::Image, None),
        (manifest(IMAGE_CONFIG, &[]), Kind::Image, None),
        (docker, Kind::Image, None),
        (json!({ "schemaVersion": 2, "manifests": [] }), Kind::Index, None),
        (
            json!({ "schemaVersion": 2, "manifests": null, "artifactType": "a/b", "mediaType": MediaType::OCI_INDEX }),
            Kind::Index,
            Some("a/b"),
        ),
        (
            manifest(HELM_CONFIG, &["application/vnd.cncf.helm.chart.content.v1.tar+gzip"]),
            Kind::HelmChart,
            Some(HELM_CONFIG),
        ),
        (manifest(IMAGE_CONFIG, &["application/vnd.dev.cosign.simplesigning.v1+json"]), Kind::Signature, None),
        (
            artifact("application/vnd.cncf.notary.signature"),
            Kind::Signature,
            Some("application/vnd.cncf.notary.signature"),
        ),
        (bundle("message-signature", ""), Kind::Signature, Some("application/vnd.dev.sigstore.bundle.v0.3+json")),
        (
            bundle("dsse-envelope", "https://sigstore.dev/cosign/sign/v1"),
            Kind::Signature,
            Some("application/vnd.dev.sigstore.bundle.v0.3+json"),
        ),
        (
            bundle("dsse-envelope", "https://slsa.dev/provenance/v1"),
            Kind::Attestation,
            Some("application/vnd.dev.sigstore.bundle.v0.3+json"),
        ),
        (artifact("application/spdx+json"), Kind::Sbom, Some("application/spdx+json")),
        (artifact("application/vnd.cyclonedx+json"), Kind::Sbom, Some("application/vnd.cyclonedx+json")),
        (manifest(IMAGE_CONFIG, &["text/spdx+json"]), Kind::Sbom, None),
        (
            manifest(IMAGE_CONFIG, &["application/vnd.in-toto+json", "application/vnd.in-toto+json"]),
            Kind::Attestation,
            None,
        ),
        (manifest(IMAGE_CONFIG, &["application/vnd.dsse.envelope.v1+json"]), Kind::Attestation, None),
        (manifest(IMAGE_CONFIG, &["application/vnd.in-toto+json", LAYER]), Kind::Image, None),
        (artifact("application/vnd.example"), Kind::Artifact, Some("application/vnd.example")),
        (manifest(EMPTY, &["text/plain"]), Kind::Artifact, Some(EMPTY)),
        (
            manifest("application/vnd.docker.plugin.v1+json", &[LAYER]),
            Kind::Artifact,
            Some("application/vnd.docker.plugin.v1+json"),
        ),
    ];
    for (manifest, kind, artifact_type) in cases {
        let (facts, _) = draft(&manifest).finish(None);
        assert_eq!((facts.kind, facts.artifact_type.as_deref()), (kind, artifact_type), "{manifest}");
    }
}

#[test]
fn only_a_config_with_known_fields_is_read() {
    let digest = |kind: &str| Some(Digest::of(Algorithm::Sha256, kind.as_bytes()));
    assert_eq!(draft(&manifest(IMAGE_CONFIG, &[])).config(), digest(IMAGE_CONFIG));
    assert_eq!(draft(&manifest(HELM_CONFIG, &[])).config(), digest(HELM_CONFIG));
    assert_eq!(draft(&manifest(EMPTY, &[])).config(), None);
    assert_eq!(draft(&json!({ "schemaVersion": 2, "manifests": [] })).config(), None);
}

#[test]
fn an_image_is_described_by_its_config() {
    let config = json!({
        "created": "2026-03-01T12:00:00.5Z",
        "os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1",
        "config": {
            "User": "app", "WorkingDir": "/srv", "Entrypoint": ["/bin/app", "--serve"], "Cmd": ["all"],
            "Env": ["PATH=/bin", "PASSWORD=secret=1", "EMPTY"],
            "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "Volumes": { "/data": {} },
            "Labels": { "org.opencontainers.image.title": "from the label", "team": "a" },
        },
        "history": [
            { "created": "2026-03-01T11:00:00Z", "created_by": "COPY\tapp /\n", "comment": "buildkit" },
            { "created_by": "ENV A=b", "empty_layer": true },
        ],
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let annotated = with(
        manifest(IMAGE_CONFIG, &[LAYER, LAYER]),
        "annotations",
        json!({ "org.opencontainers.image.version": "1.2", "org.opencontainers.image.created": "2020-01-01T00:00:00Z", "other": "x" }),
    );
    let (facts, details) = facts(&annotated, &config);
    let text = |text: &str| text.to_owned();
    assert_eq!(
        facts.platform,
        Some(Platform { os: text("linux"), architecture: text("arm64"), variant: text("v8"), os_version: text("1") })
    );
    assert_eq!((facts.created, facts.layers), (Timestamp::from_rfc3339("2026-03-01T12:00:00.5Z"), 2));
    assert_eq!((details.entrypoint, details.cmd), (vec![text("/bin/app"), text("--serve")], vec![text("all")]));
    assert_eq!(details.environment, ["PATH", "PASSWORD", "EMPTY"]);
    assert_eq!((&*details.user, &*details.working_dir), ("app", "/srv"));
    assert_eq!((details.ports, details.volumes), (vec![text("53/udp"), text("80/tcp")], vec![text("/data")]));
    assert_eq!(details.labels.len(), 2);
    assert_eq!(details.annotations, [(text("title"), text("from the label")), (text("version"), text("1.2"))]);
    let first = BuildStep {
        created: Timestamp::from_rfc3339("2026-03-01T11:00:00Z"),
        created_by: text("COPY app / "),
        comment: text("buildkit"),
        is_empty_layer: false,
    };
    let second = BuildStep { created_by: text("ENV A=b"), is_empty_layer: true, ..BuildStep::default() };
    assert_eq!(details.history, [first, second]);
    assert!(!details.is_truncated);
}

#[test]
fn an_index_has_the_platforms_of_its_manifests() {
    let child = |platform: Value| with(descriptor(MediaType::OCI_MANIFEST), "platform", platform);
    let index = json!({ "schemaVersion": 2, "manifests": [
        child(json!({ "os": "linux", "architecture": "amd64" })),
        child(json!({ "os": "linux", "architecture": "arm", "variant": "v7" })),
        child(json!({ "os": "linux", "architecture": "amd64" })),
        child(json!({ "os": "unknown", "architecture": "unknown" })),
        child(json!("linux/s390x")),
        descriptor(MediaType::OCI_MANIFEST),
    ]});
    let (facts, _) = draft(&index).finish(None);
    let platforms: Vec<_> =
        facts.platforms.iter().map(|platform| (&*platform.architecture, &*platform.variant)).collect();
    assert_eq!(platforms, [("amd64", ""), ("arm", "v7")]);
    assert_eq!((facts.layers, facts.platform), (6, None));
}

#[test]
fn a_chart_is_described_by_its_config() {
    let config = json!({ "name": "app", "version": "1.0", "description": "A chart", "sources": ["https://git"], "home": "https://home" });
    let (_, details) = facts(&manifest(HELM_CONFIG, &["a/b"]), &config);
    let found: Vec<_> = details.annotations.iter().map(|(name, value)| (&**name, &**value)).collect();
    let expected = [
        ("title", "app"),
        ("description", "A chart"),
        ("version", "1.0"),
        ("url", "https://home"),
        ("source", "https://git"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn fields_of_the_wrong_type_count_as_missing() {
    let annotated =
        with(manifest(IMAGE_CONFIG, &[LAYER]), "annotations", json!({ "org.opencontainers.image.title": "x" }));
    for config in [
        "",
        "null",
        "[]",
        "7",
        "{",
        r#"{"os":"linux""#,
        r#"{"config":[],"history":{},"os":5,"created":[]}"#,
        r#"{"config":{"Env":"A=b","Labels":[1],"ExposedPorts":null,"User":null,"Cmd":{"a":1}},"history":[1,null,{"created":3}]}"#,
        r#"{"created":"0001-01-01T00:00:00Z"}"#,
        r#"{"created":"9999999-01-01T00:00:00Z"}"#,
        "\u{feff}{}",
        r#"{"os":"\ud83d"}"#,
        r#"{"os":"linux","os":"linux"}"#,
    ] {
        let (facts, details) = draft(&annotated).finish(Some(config.as_bytes()));
        assert_eq!((facts.kind, facts.created), (Kind::Image, None), "{config}");
        assert_eq!(details.annotations, [("title".to_owned(), "x".to_owned())], "{config}");
    }
    let (_, details) = draft(&annotated).finish(Some(br#"{"config":{"Entrypoint":"/bin/sh -c app"}}"#));
    assert_eq!(details.entrypoint, ["/bin/sh -c app"]);
    let (facts, _) = draft(&annotated).finish(Some(&[0xff, 0xfe]));
    assert_eq!(facts.platform, None);
    assert!(draft(&annotated).finish(Some("[".repeat(200_000).as_bytes())).1.history.is_empty());
}

#[test]
fn the_facts_of_a_hostile_image_are_small() {
    let long = "x\u{202e}\u{1b}[2J".repeat(100);
    let list = vec![json!(long); 1000];
    let object: serde_json::Map<_, _> = (0..1000).map(|number| (format!("{number}{long}"), json!(long))).collect();
    let steps = vec![json!({ "created_by": long, "comment": long, "created": "2026-01-01T00:00:00Z" }); 1000];
    let config = json!({
        "os": long, "architecture": long, "variant": long, "os.version": long, "created": long,
        "config": { "User": long, "WorkingDir": long, "Entrypoint": list, "Cmd": list, "Env": list,
            "ExposedPorts": object, "Volumes": object, "Labels": object },
        "history": steps,
    });
    let hostile = with(
        manifest(IMAGE_CONFIG, &vec![LAYER; 2000]),
        "annotations",
        json!({ "org.opencontainers.image.title": long }),
    );
    let row = facts(&hostile, &config);
    assert!(row.1.is_truncated && row.0.layers == 2000);
    let bytes = postcard::to_stdvec(&row).unwrap();
    assert!(bytes.len() <= 32 * 1024, "{}", bytes.len());
    let shown = serde_json::to_string(&row).unwrap();
    assert!(!shown.contains('\u{202e}') && !shown.contains("\\u00"), "{shown:.1000}");
    let platform = json!({ "os": long, "architecture": "a" });
    let children: Vec<_> = (0..2000)
        .map(|number| {
            let mut platform = platform.clone();
            platform["variant"] = json!(format!("{number}"));
            with(descriptor(MediaType::OCI_MANIFEST), "platform", platform)
        })
        .collect();
    let (facts, _) = draft(&json!({ "schemaVersion": 2, "manifests": children })).finish(None);
    assert_eq!((facts.platforms.len(), facts.layers), (PLATFORMS, 2000));
}
