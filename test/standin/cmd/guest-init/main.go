// Command guest-init is the first process of the stand-in's VM: init, and a stand-in for Kata's agent. It is of no use
// anywhere else.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/standin/agent"
)

func main() {
	if os.Args[0] == agent.ChildName {
		agent.Child()
	}
	if os.Args[0] == agent.PauseName {
		agent.Pause()
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest-init: only runs as the first process of the stand-in's VM")
		os.Exit(1)
	}
	err := agent.Boot()
	if err == nil {
		err = agent.Serve()
	}
	if err == nil {
		err = errors.New("nothing left to do")
	}
	logrus.SetOutput(os.Stderr)
	agent.PowerOff(err)
}
