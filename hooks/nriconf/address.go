package nriconf

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
)

// unixPrefix marks addresses of Unix sockets.
const unixPrefix = "unix:"

// SplitAddress returns the network and the address on it, as package net has them, of an address to listen on.
func SplitAddress(address string) (network, where string, err error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		if !filepath.IsAbs(path) {
			return "", "", fmt.Errorf("%q: the path of the socket is not absolute; valid is unix:/PATH", address)
		}
		return "unix", path, nil
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return "", "", fmt.Errorf("%q is not HOST:PORT, nor unix:/PATH: %w", address, err)
	}
	return "tcp", address, nil
}
