package shim

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// restoreArg as the only argument starts lost proxies again; see restoreProxies.
const restoreArg = "restore-proxies"

// Main is the program: argv as CRI-O gives it, version for --version, the exit code returned. Calls that it does not
// answer itself become the real shim's, in the same process.
func Main(argv []string, version string) int {
	if len(argv) == 3 && argv[1] == daemonArg {
		return runDaemon(argv[2])
	}
	if len(argv) == 2 && argv[1] == restoreArg {
		return failed(restoreProxies(runDir()))
	}
	handler, err := handlerName(argv[0])
	if err != nil {
		return failed(err)
	}
	program, err := findReal(argv[0], handler)
	if err != nil {
		return failed(err)
	}
	args := argv[1:]
	if len(args) == 1 && (args[0] == "--version" || args[0] == "-version") {
		return printVersion(program, args, version)
	}
	c := parseArgs(args)
	if c.action != "start" {
		return failed(execReal(program, args))
	}
	address, err := start(handler, program, args, c.id)
	if err != nil {
		return failed(err)
	}
	fmt.Print(address)
	return 0
}

// failed writes an error where CRI-O finds it: it reports the combined output of a shim that fails.
func failed(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "crio-erofs: %v\n", err)
	return 1
}

// printVersion prints the real shim's version, then ours.
func printVersion(program string, args []string, own string) int {
	ctx, cancel := context.WithTimeout(context.Background(), versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	fmt.Printf("crio-erofs containerd shim interposer, version: %s\n", own)
	if err != nil {
		return failed(fmt.Errorf("%s %s: %w", program, args[0], err))
	}
	return 0
}

// call is the part of a shim's command line that matters here.
type call struct {
	action string
	id     string
}

// valueFlags are the flags of a shim that take a value (containerd 1.7, runtime/v2/shim/shim.go). The others of that
// list, and any that are unknown, are taken as switches.
var valueFlags = map[string]bool{
	"namespace": true, "id": true, "socket": true, "bundle": true, "address": true, "publish-binary": true,
}

// parseArgs reads a command line by the rules of Go's package flag: flags with one or two dashes, the action behind
// them. Package flag itself would not let unknown flags pass.
func parseArgs(args []string) (c call) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			c.action = arg
			return c
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		if valueFlags[name] && !hasValue && i+1 < len(args) {
			i++
			value = args[i]
		}
		if name == "id" {
			c.id = value
		}
	}
	return c
}
