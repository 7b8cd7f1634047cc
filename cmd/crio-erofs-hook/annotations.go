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
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

func newAnnotationsCommand() *cobra.Command {
	var format string
	var choice choiceFlags
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
			config, err := choice.load()
			if err != nil {
				return err
			}
			c.Handler = choice.handler
			a, err := hooks.Annotate(config, *c)
			if err != nil {
				return err
			}
			if err := hooks.Enforce(cmd.Context(), trust.NextTo(choice.config), a, *c); err != nil {
				return err
			}
			if format == "json" {
				return printJSON(cmd.OutOrStdout(), c.MountPoint, a)
			}
			return printTable(cmd.OutOrStdout(), a)
		},
	}
	cmd.Flags().StringVar(&format, "format", "table", "json or table")
	choice.add(cmd)
	return cmd
}

// findContainer reads a bundle's config.json; a directory without one is taken as a mount point.
func findContainer(dir string) (*hooks.Container, error) {
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
		return &hooks.Container{MountPoint: dir}, nil
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
	c := &hooks.Container{MountPoint: spec.Root.Path, Annotations: spec.Annotations}
	if !filepath.IsAbs(c.MountPoint) {
		c.MountPoint = filepath.Join(dir, c.MountPoint) // the OCI runtime specification: relative to the bundle
	}
	return c, nil
}

func printJSON(w io.Writer, mountPoint string, a *hooks.Adjustment) error {
	out := struct {
		MountPoint string            `json:"mount_point"`
		Handler    string            `json:"handler"`
		Mode       kata.Mode         `json:"mode,omitempty"`
		Set        map[string]string `json:"set"`
		Remove     []string          `json:"remove"`
	}{mountPoint, a.Handler.Name, a.Mode, a.Set, a.Remove}
	if out.Remove == nil {
		out.Remove = []string{}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

func printTable(w io.Writer, a *hooks.Adjustment) error {
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
	if err := t.Flush(); err != nil || a.Mode != "" {
		return err
	}
	_, err := fmt.Fprintf(w, "\nHandler %s gets no volumes: the configuration does not name it.\n", a.Handler.Name)
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
