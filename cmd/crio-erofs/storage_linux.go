package main

import (
	"os"

	"github.com/containers/storage/pkg/reexec"

	_ "github.com/crio-erofs/crio-erofs/driver" // for containers-storage: images of a node
)

func init() {
	if reexec.Init() { // this process is a helper that containers/storage started
		os.Exit(0)
	}
}
