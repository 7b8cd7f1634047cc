package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/test/standin/agentapi"
	"github.com/crio-erofs/crio-erofs/test/standin/shim"
)

const guestInfoName = "guest-info"

func newGuestInfoCommand() *cobra.Command {
	var sandbox, format string
	var tail int
	root := &cobra.Command{Use: "containerd-shim-kata-v2", SilenceUsage: true}
	cmd := &cobra.Command{
		Use:   guestInfoName + " --sandbox ID",
		Short: "Show what the guest of a running sandbox has mounted and verified, in its own words",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("--format %q: want table or json", format)
			}
			info, err := shim.GuestInfo(cmd.Context(), sandbox, tail)
			if err != nil {
				return err
			}
			if format == "json" {
				enc := json.NewEncoder(os.Stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(info)
			}
			return printTable(os.Stdout, info)
		},
	}
	cmd.Flags().StringVar(&sandbox, "sandbox", "", "id of the sandbox, or its beginning")
	cmd.Flags().StringVar(&format, "format", "table", "table or json")
	cmd.Flags().IntVar(&tail, "tail", 0, "also show this many of the last lines of the guest kernel's log")
	cmd.MarkFlagRequired("sandbox")
	root.AddCommand(cmd)
	return root
}

// printTable shows the mounts and devices that containers are made of.
func printTable(w io.Writer, info *agentapi.GuestInfo) error {
	var b strings.Builder
	fmt.Fprintf(&b, "guest: Linux %s\n\n/proc/mounts (erofs, overlay):\n", info.Kernel)
	for _, line := range info.Mounts {
		if fields := strings.Fields(line); len(fields) > 2 && (fields[2] == "erofs" || fields[2] == "overlay") {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	b.WriteString("\ndevice mapper:\n")
	for _, d := range info.DM {
		fmt.Fprintf(&b, "  %s (%s): %s\n    table: verity %s\n", d.Name, d.Device, statusText(d.Status), d.Table)
	}
	if len(info.KernelLog) > 0 {
		b.WriteString("\nkernel log:\n")
	}
	for _, line := range info.KernelLog {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// statusText explains dm-verity's status (linux Documentation/admin-guide/device-mapper/verity.rst).
func statusText(status string) string {
	switch status {
	case "V":
		return "V, all that was read so far is valid"
	case "C":
		return "C, corruption was found"
	}
	return status
}
