package main

import (
	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/kata/modes"
)

// choiceFlags say how a container's mode is chosen where no runtime says it.
type choiceFlags struct {
	config, handler string
}

func (f *choiceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.handler, "handler", "kata-erofs", "runtime handler of the container's pod")
	addConfigFlag(cmd, &f.config)
}

func addConfigFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "config", "", "configuration file (default "+modes.DefaultPath+", if it is there)")
}

// load fails for any damaged file: the handler is one of ours because somebody says so here, and a process that has just
// been started cannot know which handlers the file named before.
func (f *choiceFlags) load() (*modes.Config, error) {
	return modes.Load(f.config)
}
