// Command containerd-shim-kata-v2 is a stand-in for Kata Containers' shim, for tests on machines without KVM. It must
// never be installed: see docs/testing-guest.md for what it is and is not.
package main

import (
	"fmt"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/crio-erofs/crio-erofs/test/standin/shim"
)

func main() {
	logrus.SetOutput(os.Stderr)
	if len(os.Args) > 1 && os.Args[1] == guestInfoName {
		if err := newGuestInfoCommand().Execute(); err != nil {
			os.Exit(1)
		}
		return
	}
	if err := run(os.Args[1:]); err != nil {
		// Kata's runtime-rs reports errors on standard error and ends with status 0, so that callers have to look at
		// what it printed (kata-containers src/runtime-rs/crates/shim/src/bin/main.rs, main). So does its stand-in.
		fmt.Fprintf(os.Stderr, "%s\nERROR: containerd-shim-kata-v2 failed: %v\n", shim.VersionText, err)
	}
}

func run(argv []string) error {
	action, args, err := shim.ParseArgs(argv)
	if err != nil {
		return err
	}
	switch action {
	case shim.ActionHelp, shim.ActionVersion:
		fmt.Println(shim.VersionText)
	case shim.ActionInfo:
		return print(shim.RuntimeInfo())
	case shim.ActionDelete:
		return print(shim.Delete(args))
	case shim.ActionStart:
		address, err := shim.Start(args)
		return print([]byte(address), err)
	case shim.ActionRun:
		return shim.Run(args)
	}
	return nil
}

func print(b []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(b)
	return err
}
