// Command outer-init is the first process of the VM that test/realkata/outer boots. It is of no use anywhere else.
package main

import (
	"fmt"
	"os"

	"github.com/crio-erofs/crio-erofs/test/realkata/outerinit"
	"github.com/crio-erofs/crio-erofs/test/standin/agent"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "outer-init: only runs as the first process of a VM")
		os.Exit(1)
	}
	err := outerinit.Boot()
	if err == nil {
		err = outerinit.Serve()
	}
	agent.PowerOff(err)
}
