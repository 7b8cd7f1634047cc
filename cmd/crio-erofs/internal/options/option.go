package options

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/internal/output"
	"github.com/crio-erofs/crio-erofs/kata"
)

func newOptionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "option",
		Short: "Encode, decode and explain ExtraOption and KataVirtualVolume",
		Long: `option is for the two descriptions of a volume that travel between CRI-O and Kata in annotations and mount options: the
ExtraOption of confidential-containers#137 and Kata's KataVirtualVolume, both base64 of JSON.`,
	}
	cmd.AddCommand(newOptionEncodeCommand(), newOptionDecodeCommand(), newOptionExplainCommand())
	return cli.Group(cmd)
}

// optionText says what decode and explain take.
const optionText = `TEXT is what there is: the value as it stands in an annotation or mount option, its JSON, a line with one or more
of "io.katacontainers.volume.N: VALUE", "io.katacontainers.volume=VALUE" and their like, a whole mount option line, a
JSON object of annotations, or an OCI configuration (config.json). Without TEXT, or if it is -, it is read from standard input.`

func newOptionDecodeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "decode [TEXT]",
		Short: "Show the JSON in an option or annotation",
		Long: "decode prints the JSON of what is in TEXT, as encode takes it: one object, or a list if there are several.\n" +
			"It refuses what Kata's readers and ours could read differently; see docs/annotations.md.\n\n" + optionText,
		Args: cli.MaximumArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := readItems(cmd.InOrStdin(), args)
			if err != nil {
				return err
			}
			values := make([]any, len(items))
			for i, item := range items {
				values[i] = itemValue(item)
			}
			if len(values) == 1 {
				return output.JSON(cmd.OutOrStdout(), values[0])
			}
			return output.JSON(cmd.OutOrStdout(), values)
		},
	}
}

func itemValue(item kata.Item) any {
	if item.Volume != nil {
		return item.Volume
	}
	return item.Option
}

// maxOptionInput bounds what is read from standard input.
const maxOptionInput = 32 << 20

func readItems(stdin io.Reader, args []string) ([]kata.Item, error) {
	text := strings.Join(args, "")
	if len(args) == 0 || text == "-" {
		b, err := io.ReadAll(io.LimitReader(stdin, maxOptionInput+1))
		if err != nil {
			return nil, err
		}
		text = string(b)
	}
	return kata.ParseText(text)
}

// optionForm is the value of --as.
type optionForm string

const (
	formBase64      optionForm = "base64"
	formAnnotation  optionForm = "annotation"
	formMountOption optionForm = "mount-option"
)

func (f *optionForm) String() string { return string(*f) }
func (f *optionForm) Type() string   { return "FORM" }

func (f *optionForm) Set(s string) error {
	switch optionForm(s) {
	case formBase64, formAnnotation, formMountOption:
		*f = optionForm(s)
		return nil
	}
	return fmt.Errorf("must be one of (%s|%s|%s)", formBase64, formAnnotation, formMountOption)
}

type encodeOptions struct {
	form   optionForm
	number int
	fields optionFields
}

func newOptionEncodeCommand() *cobra.Command {
	o := encodeOptions{form: formBase64}
	cmd := &cobra.Command{
		Use:   "encode [flags] [FILE]",
		Short: "Make an option or annotation of JSON, or of a volume",
		Long: `encode prints the encoded form of a description: of the JSON in FILE, or in standard input if FILE is -, or of what the
flags say. --type tells which: raw-layer-block and the other types with dashes make an ExtraOption, layer_raw_block and
the other types with underscores a KataVirtualVolume. --volume FILE takes source and dm-verity parameters from a volume.
Fields that do not belong to the type are refused.`,
		Example: `  crio-erofs option encode --type layer_raw_block --volume layer.erofs --as annotation --number 0
  crio-erofs option encode --type runtime-agent-pull --label containerd.io/snapshot/cri.image-ref=quay.io/a/b:1
  crio-erofs option decode "$VALUE" | jq '.options = ["ro"]' | crio-erofs option encode -`,
		Args: cli.MaximumArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) != cmd.Flags().Changed("type") {
				return cli.Usage(errors.New("give either FILE or --type, with the type's fields"))
			}
			return o.run(cmd.InOrStdin(), cmd.OutOrStdout(), args)
		},
	}
	cmd.Flags().Var(&o.form, "as", "what to print: base64, annotation (KEY=VALUE), or mount-option")
	cmd.Flags().IntVar(&o.number, "number", 0, "the volume's number in the annotation's key; 0 is the lowest layer")
	o.fields.addFlags(cmd.Flags())
	return cmd
}

func (o *encodeOptions) run(stdin io.Reader, stdout io.Writer, args []string) error {
	if o.number < 0 {
		return cli.Usage(fmt.Errorf("--number %d is negative", o.number))
	}
	items, err := o.items(stdin, args)
	if err != nil {
		return err
	}
	for i, item := range items {
		line, err := o.line(item, o.number+i)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, line)
	}
	return nil
}

func (o *encodeOptions) items(stdin io.Reader, args []string) ([]kata.Item, error) {
	if len(args) == 0 {
		item, err := o.fields.item()
		return []kata.Item{item}, err
	}
	if args[0] == "-" {
		return readItems(stdin, nil)
	}
	f, err := os.Open(args[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	items, err := readItems(f, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return items, nil
}

// line returns what to print for the n-th volume.
func (o *encodeOptions) line(item kata.Item, n int) (string, error) {
	annotation, mountOption := kata.ExtraOptionKey(n), kata.ExtraOptionOption
	encode := item.Option.Encode
	if item.Volume != nil {
		annotation, mountOption, encode = kata.VolumeKey(n), kata.VolumeOption, item.Volume.Encode
	}
	value, err := encode()
	if err != nil {
		return "", err
	}
	switch o.form {
	case formAnnotation:
		return annotation + "=" + value, nil
	case formMountOption:
		return mountOption + value, nil
	}
	return value, nil
}
