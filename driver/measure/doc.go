// Package measure computes which volumes a node makes of an image, from the image alone.
//
// A volume's bytes depend on the layer's tar and the format version only, so anyone who has an image can say which root
// hashes its volumes have. That is what a guest, a policy or a node needs to know from elsewhere than from the host
// that made the volumes. Nothing of the layers is kept: only hashes, and what merging them needs.
//
// A Measurement is the result, a JSON document (docs/measure.md, docs/measurement.schema.json). Where images come from
// is the business of package source.
package measure
