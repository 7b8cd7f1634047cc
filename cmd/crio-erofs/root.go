package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/disks"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/files"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/images"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/inspect"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/node"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/options"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/store"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/volumes"
)

// groups are the headings of the list of commands, each with the package that has its commands.
var groups = []struct {
	id, title string
	commands  func() []*cobra.Command
}{
	{"volumes", "Volumes, as files anywhere:", volumes.Commands},
	{"files", "What is in volumes and images:", func() []*cobra.Command {
		return slices.Concat(inspect.Commands(), files.Commands(), disks.Commands())
	}},
	{"images", "Images, and what is known of their volumes:", images.Commands},
	{"node", "A node:", nodeCommands},
	{"kata", "What travels between CRI-O and Kata:", options.Commands},
}

func nodeCommands() []*cobra.Command { return append(node.Commands(), store.Commands()...) }

func newCommand() *cobra.Command {
	root := cli.NewRoot()
	for _, group := range groups {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, cmd := range group.commands() {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(newVersionCommand())
	for _, newBuildCommand := range buildCommands {
		root.AddCommand(newBuildCommand())
	}
	return root
}

// buildCommands are for the build only, see manual.go.
var buildCommands []func() *cobra.Command
