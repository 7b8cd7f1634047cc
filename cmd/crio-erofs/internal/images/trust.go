package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata/modes"
	"github.com/crio-erofs/crio-erofs/kata/trust"
)

// trustOptions say where a node's trust is.
type trustOptions struct {
	config string
}

func (o *trustOptions) dir() *trust.Dir { return trust.NextTo(o.config) }

func newTrustCommand() *cobra.Command {
	var o trustOptions
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Manage what this node trusts",
		Long: fmt.Sprintf(`The hook and the shim compare the volumes of containers with measurements that the node trusts, where the configuration says
enforce = "warn" or "require". These are the files %s/*.json beside the configuration file: measurements, which count because only
root can put them there, and signed measurements, which count if a key among %s/*.pem has signed them.`, trust.DirName, trust.KeysName),
	}
	cmd.PersistentFlags().StringVar(&o.config, "config", modes.DefaultPath, "the node's configuration file")
	cmd.AddCommand(newTrustAddCommand(&o), newTrustFetchCommand(&o), newTrustLsCommand(&o))
	return cli.Group(cmd)
}

func newTrustAddCommand(o *trustOptions) *cobra.Command {
	return &cobra.Command{
		Use:   "add FILE|-...",
		Short: "Trust measurements",
		Long: `add puts measurements (measure --format json) and signed measurements (attest --no-push) where the node looks for them. Signed ones
need a key of the node. A measurement that contradicts one that is there is refused: remove that first.`,
		Example: "  crio-erofs measure --format json oci:image | crio-erofs trust add -",
		Args:    cli.MinimumArgs(1, "at least one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, path := range args {
				if err := o.addFile(cmd.Context(), cmd.OutOrStdout(), path); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// addFile adds the JSON documents of a file.
func (o *trustOptions) addFile(ctx context.Context, stdout io.Writer, path string) error {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	dec := json.NewDecoder(in)
	for n := 0; ; n++ {
		var doc json.RawMessage
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) && n > 0 {
			return nil
		}
		if err == nil {
			err = o.add(ctx, stdout, doc, (*trust.Dir).Add)
		}
		if err != nil {
			return fmt.Errorf("%s: document %d: %w", path, n+1, err)
		}
	}
}

// add checks a document as the hook will and writes it.
func (o *trustOptions) add(ctx context.Context, stdout io.Writer, doc []byte,
	add func(*trust.Dir, context.Context, []byte, []*trust.Key) (string, error)) error {
	d := o.dir()
	keys, err := d.Keys()
	if err != nil {
		return err
	}
	path, err := add(d, ctx, doc, keys)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, path)
	return err
}

func newTrustFetchCommand(o *trustOptions) *cobra.Command {
	var images imageOptions
	cmd := &cobra.Command{
		Use:   "fetch docker://IMAGE...",
		Short: "Trust the signed measurements that are stored with images",
		Long: `fetch finds the measurements that attest has stored with an image, and adds those that a key of the node has signed. The hook never
asks a registry itself: the container runtime waits for it.`,
		Args: atLeastOneImage,
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := o.dir().Keys()
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				return fmt.Errorf("%s has no keys: put the public keys there whose signatures are to count (NAME.pem)", o.dir().KeysPath())
			}
			for _, image := range args {
				found, err := images.find(cmd.Context(), image, keys)
				if err != nil {
					return err
				}
				for _, f := range found {
					if err := o.add(cmd.Context(), cmd.OutOrStdout(), f.Envelope, (*trust.Dir).AddSigned); err != nil {
						return fmt.Errorf("%s: %w", f.Name, err)
					}
				}
			}
			return nil
		},
	}
	images.addFlags(cmd)
	for _, name := range []string{"layout", "jobs", "tmpdir"} {
		cmd.Flags().Lookup(name).Hidden = true // nothing is measured
	}
	return cmd
}

func newTrustLsCommand(o *trustOptions) *cobra.Command {
	var format output.Format
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List what the node trusts, and files that do not count",
		Args:  cli.ExactArgs(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			entries, err := o.dir().Entries(cmd.Context())
			if err != nil {
				return err
			}
			return printEntries(cmd.OutOrStdout(), entries, format)
		},
	}
	output.AddFlag(cmd, &format, trusted{})
	return cmd
}

// trusted is what trust ls prints of a file.
type trusted struct {
	Path          string        `json:"path"`
	Image         string        `json:"image,omitempty"`
	ConfigDigest  string        `json:"config_digest,omitempty"`
	Layout        volume.Layout `json:"layout,omitempty"`
	FormatVersion int           `json:"format_version,omitempty"`
	ImageRootHash string        `json:"image_root_hash,omitempty"`
	SignedBy      string        `json:"signed_by,omitempty"`
	Problem       string        `json:"problem,omitempty"`
}

func printEntries(w io.Writer, entries []*trust.Entry, format output.Format) error {
	list := make([]trusted, len(entries))
	for i, e := range entries {
		t := trusted{Path: e.Path, SignedBy: e.KeyID}
		if e.Problem != nil {
			t.Problem = e.Problem.Error()
		}
		if m := e.Measurement; m != nil {
			t.Image, t.ConfigDigest, t.Layout, t.FormatVersion = m.Image, m.ConfigDigest, m.Layout, m.FormatVersion
			if m.ImageVolume != nil {
				t.ImageRootHash = m.ImageVolume.Verity.RootHash
			}
		}
		list[i] = t
	}
	table := output.NewTable(output.Column{Name: "FILE", Cut: 20}, output.Column{Name: "IMAGE ID"},
		output.Column{Name: "MEASURED AS", Cut: 20}, output.Column{Name: "LAYOUT"}, output.Column{Name: "IMAGE ROOT HASH", Cut: 16}, output.Column{Name: "SIGNED BY"})
	for _, t := range list {
		if t.Problem != "" {
			table.Add(filepath.Base(t.Path), output.Bad("does not count: "+t.Problem))
			continue
		}
		by := "-"
		if t.SignedBy != "" {
			by = t.SignedBy[:16]
		}
		id := strings.TrimPrefix(t.ConfigDigest, "sha256:")[:12]
		table.Add(filepath.Base(t.Path), id, t.Image, t.Layout, t.ImageRootHash, by)
	}
	return format.Print(w, list, table)
}
