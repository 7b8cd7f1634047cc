package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/hooks"
	"github.com/crio-erofs/crio-erofs/kata"
)

func newAnnotationsCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "annotations BUNDLE|MOUNTPOINT",
		Short: "Show which annotations the plugin would set on and remove from a container",
		Long: "Show which annotations the plugin would set on and remove from a container, given as an OCI bundle\n" +
			"(a directory with config.json) or as the directory of the host on which its rootfs is mounted.\n\n" +
			"It exits with 1 if the plugin would refuse the container.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "json" && format != "table" {
				return fmt.Errorf("--format %q is unknown; valid are json, table", format)
			}
			c, err := findContainer(args[0])
			if err != nil {
				return err
			}
			a, err := hooks.Annotate(c.annotations, c.mountPoint)
			if err != nil {
				return err
			}
			if format == "json" {
				return printJSON(cmd.OutOrStdout(), c.mountPoint, a)
			}
			return printTable(cmd.OutOrStdout(), c.mountPoint, a)
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "json or table")
	return cmd
}

type container struct {
	mountPoint  string
	annotations map[string]string
}

// findContainer reads a bundle's config.json; a directory without one is taken as a mount point.
func findContainer(dir string) (*container, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("%s is not a directory; give a bundle or a mount point", dir)
	}
	path := filepath.Join(dir, "config.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &container{mountPoint: dir}, nil
	}
	if err != nil {
		return nil, err
	}
	var spec struct {
		Root *struct {
			Path string `json:"path"`
		} `json:"root"`
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(b, &spec); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if spec.Root == nil || spec.Root.Path == "" {
		return nil, fmt.Errorf("%s has no root.path", path)
	}
	c := &container{mountPoint: spec.Root.Path, annotations: spec.Annotations}
	if !filepath.IsAbs(c.mountPoint) {
		c.mountPoint = filepath.Join(dir, c.mountPoint) // the OCI runtime specification: relative to the bundle
	}
	return c, nil
}

func printJSON(w io.Writer, mountPoint string, a *hooks.Adjustment) error {
	out := struct {
		MountPoint string            `json:"mount_point"`
		Ours       bool              `json:"ours"`
		Refusal    string            `json:"refusal,omitempty"`
		Set        map[string]string `json:"set"`
		Remove     []string          `json:"remove"`
	}{mountPoint, a.Manifest != nil, "", a.Set, a.Remove}
	if a.Manifest != nil {
		out.Refusal = a.Manifest.Refusal
	}
	if out.Remove == nil {
		out.Remove = []string{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

func printTable(w io.Writer, mountPoint string, a *hooks.Adjustment) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "ACTION\tANNOTATION\tVALUE\n")
	for _, key := range sortedKeys(a.Set) {
		value, err := readable(key, a.Set[key])
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		fmt.Fprintf(t, "set\t%s\t%s\n", key, value)
	}
	for _, key := range a.Remove {
		fmt.Fprintf(t, "remove\t%s\t\n", key)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	var err error
	switch {
	case a.Manifest == nil:
		_, err = fmt.Fprintf(w, "\n%s is not on the erofs storage driver.\n", mountPoint)
	case a.Manifest.Refusal != "":
		_, err = fmt.Fprintf(w, "\n%s cannot be given to a VM as volumes: %s\n", mountPoint, a.Manifest.Refusal)
	}
	return err
}

// sortedKeys sorts volume 10 behind volume 9.
func sortedKeys(m map[string]string) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if sameSeries := a[:strings.LastIndexByte(a, '.')] == b[:strings.LastIndexByte(b, '.')]; sameSeries &&
			len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
}

// readable shows what is inside an encoded annotation: its JSON.
func readable(key, value string) (string, error) {
	var decoded any
	var err error
	switch {
	case strings.HasPrefix(key, kata.AnnotationVolumePrefix):
		decoded, err = kata.DecodeVirtualVolume(value)
	case strings.HasPrefix(key, kata.AnnotationExtraOptionPrefix):
		decoded, err = kata.DecodeExtraOption(value)
	default:
		return value, nil
	}
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(decoded)
	return string(b), err
}
