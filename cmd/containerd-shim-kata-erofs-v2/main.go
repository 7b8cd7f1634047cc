// Program containerd-shim-kata-erofs-v2 is what CRI-O runs instead of a Kata shim: it runs the Kata shim and gives it
// containers' EROFS volumes. See docs/shim.md.
package main

import (
	"os"

	"github.com/crio-erofs/crio-erofs/kata/shim"
)

// version is set by the linker (see the Makefile).
var version = "unknown"

func main() {
	os.Exit(shim.Main(os.Args, version))
}
