//go:build tools

// Package crio holds no code: it names what "go mod vendor" has to fetch for bin/crio. See README.md.
package crio

import _ "github.com/cri-o/cri-o/cmd/crio"
