//! Generates the wire types and the service from the .proto files. protox compiles them, so no protoc is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["messages", "operator", "scheduler"].map(|name| format!("damselfly/v1/{name}.proto"));
    let files = protox::compile(files, ["proto"])?;
    // Without the transport there is no `connect(address)`, whose name the rpc has; a client is made from a channel.
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        // They have a secret; `join` shows them without.
        .skip_debug(["damselfly.v1.JoinRequest", "damselfly.v1.ServiceAccountJoinRequest"])
        .compile_fds(files)?;
    Ok(())
}
