package shim

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// Action is what the shim was asked for.
type Action string

// Actions of a shim. ActionRun is the daemon, as in runtime-rs: what is left when there is no other.
const (
	ActionRun     Action = "run"
	ActionStart   Action = "start"
	ActionDelete  Action = "delete"
	ActionVersion Action = "version"
	ActionInfo    Action = "info"
	ActionHelp    Action = "help"
)

// Args are the shim's arguments (kata-containers src/runtime-rs/crates/shim/src/args.rs).
type Args struct {
	ID            string
	Namespace     string
	Address       string
	PublishBinary string
	Bundle        string // the working directory if empty
	Debug         bool
}

// ParseArgs reads argv without the program's name. Flags have one dash, as containerd passes them.
func ParseArgs(argv []string) (Action, *Args, error) {
	a := &Args{}
	var version, short, info bool
	flags := flag.NewFlagSet("containerd-shim-kata-v2", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&a.ID, "id", "", "id of the task")
	flags.StringVar(&a.Namespace, "namespace", "", "namespace that owns the shim")
	flags.StringVar(&a.Address, "address", "", "grpc address back to containerd")
	flags.StringVar(&a.PublishBinary, "publish-binary", "", "path to publish binary")
	flags.StringVar(&a.Bundle, "bundle", "", "path to the bundle if not workdir")
	flags.BoolVar(&a.Debug, "debug", false, "enable debug output in logs")
	flags.BoolVar(&version, "version", false, "show the version and exit")
	flags.BoolVar(&short, "v", false, "show the version and exit")
	flags.BoolVar(&info, "info", false, "print the runtime's description as protobuf")
	err := flags.Parse(argv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return ActionHelp, a, nil
	case err != nil:
		return "", nil, err
	case version || short:
		return ActionVersion, a, nil
	case info:
		return ActionInfo, a, nil
	}
	return a.action(flags.Args())
}

func (a *Args) action(rest []string) (Action, *Args, error) {
	action := ActionRun
	switch {
	case len(rest) == 0:
	case len(rest) == 1 && (rest[0] == string(ActionStart) || rest[0] == string(ActionDelete)):
		action = Action(rest[0])
	default:
		return "", nil, fmt.Errorf("invalid argument %q", rest)
	}
	for name, value := range map[string]string{"id": a.ID, "namespace": a.Namespace, "publish-binary": a.PublishBinary} {
		if value == "" {
			return "", nil, fmt.Errorf("argument %s is empty", name)
		}
	}
	if a.Bundle == "" {
		var err error
		if a.Bundle, err = os.Getwd(); err != nil {
			return "", nil, err
		}
	}
	return action, a, nil
}
