// Package agentapi is what the stand-in's shim and its agent in the guest say to each other.
//
// The calls and their messages are named as in Kata's agent protocol
// (kata-containers src/libs/protocols/protos/agent.proto) and mean the same, in particular Storage: the host describes
// in strings what the guest has to mount. They are carried by ttrpc, as Kata's are, over a virtio-serial port instead
// of vsock. Unlike Kata's they are JSON inside a google.protobuf.BytesValue, which spares the stand-in generated code.
package agentapi
