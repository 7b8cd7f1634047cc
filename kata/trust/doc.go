// Package trust knows which volumes a node is to accept for an image: measurements (package measure) that the node's
// administrator has put into a directory, or that carry the signature of a key that is configured there.
//
// A measurement is carried as the predicate of an in-toto Statement, whose subject is the image's manifest, in a DSSE
// envelope. In a Dir there are envelopes and plain measurements; Check holds a container's manifest against them.
//
// This is a check of the node by the node: it finds damage, exchanged volumes and images that nobody has vouched for, and
// it keeps an honest host from starting them. It says nothing to a guest that does not trust its host (docs/trust.md).
package trust
