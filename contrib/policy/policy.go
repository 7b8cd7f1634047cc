// Package policy has the policy for Kata's agent that goes with measured images.
package policy

import _ "embed"

// Rules is the policy without its data, erofs_images: crio-erofs measure --format rego adds that.
//
//go:embed erofs.rego
var Rules string
