//go:build graphdriver_erofs

// Package main is one file of CRI-O's main package: build.sh lays it over github.com/cri-o/cri-o/cmd/crio, so that the
// graph driver "erofs" registers itself with containers/storage. CRI-O's own sources stay as they were released.
package main

import (
	_ "github.com/crio-erofs/crio-erofs/driver"
	_ "github.com/crio-erofs/crio-erofs/driver/decryption" // CRI-O decrypts with all keys that it finds
)
