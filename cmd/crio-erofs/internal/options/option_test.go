package options

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/cli"
	"github.com/crio-erofs/crio-erofs/cmd/crio-erofs/internal/clitest"
	"github.com/crio-erofs/crio-erofs/driver/volume"
	"github.com/crio-erofs/crio-erofs/kata"
	"github.com/crio-erofs/crio-erofs/kata/katatest"
)

// option runs "crio-erofs option ARGS" and returns what it prints.
func option(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	t.Helper()
	out, err := clitest.ExecuteWith(t, Commands(), stdin, append([]string{"option"}, args...)...)
	return strings.TrimSuffix(out, "\n"), err
}

func must(t *testing.T, out string, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestOptionRoundTrip: whatever decode prints, encode makes the same text of again.
func TestOptionRoundTrip(t *testing.T) {
	for _, form := range []string{"base64", "annotation", "mount-option"} {
		for _, text := range katatest.GoodVolumes {
			out, err := option(t, text, "encode", "--as", form, "-")
			encoded := must(t, out, err)
			out, err = option(t, encoded, "decode", "-")
			decoded := must(t, out, err)
			out, err = option(t, decoded, "encode", "--as", form, "-")
			if again := must(t, out, err); again != encoded {
				t.Errorf("%s: %s became %s", form, encoded, again)
			}
		}
	}
}

// TestOptionOfVolume: what the command makes of a file is what the hook makes of its manifest.
func TestOptionOfVolume(t *testing.T) {
	path := filepath.Join(t.TempDir(), volume.FileName)
	f, err := os.Open("../../../../driver/volume/testdata/golden.tar")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := volume.Create(path, f, volume.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v := &volume.ManifestVolume{Description: *d, Path: path}
	for typ, encode := range map[string]func() (string, error){
		"layer_raw_block": kata.NewLayerVolume(v).Encode, "image_raw_block": kata.NewImageVolume(v).Encode,
		"raw-layer-block": kata.NewLayerOption(v).Encode, "raw-image-block": kata.NewImageOption(v).Encode,
	} {
		want, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := option(t, "", "encode", "--type", typ, "--volume", path)
		if err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", typ, got, err, want)
		}
		out, err := option(t, "", "explain", "--format", "json", got)
		var e []explanation
		if err := json.Unmarshal([]byte(must(t, out, err)), &e); err != nil || len(e) != 1 {
			t.Fatalf("%v: %s", err, out)
		}
		if e[0].Type != typ || e[0].Source != path || !strings.HasPrefix(e[0].VeritySetup, "veritysetup open --no-superblock ") ||
			!strings.HasSuffix(e[0].VeritySetup, path+" NAME "+path+" "+d.Verity.RootHash) {
			t.Errorf("%s is explained as %+v", typ, e[0])
		}
	}
}

// TestOptionExplainsEveryType: no type is without words.
func TestOptionExplainsEveryType(t *testing.T) {
	seen := map[string]bool{}
	for _, text := range katatest.GoodVolumes {
		out, err := option(t, text, "explain")
		if out = must(t, out, err); strings.Contains(out, "none: whoever") == strings.Contains(out, "veritysetup open") &&
			strings.Contains(out, "one disk") {
			t.Errorf("verity or not? %s", out)
		}
		for typ := range volumeKnowledge {
			if strings.Contains(out, "of type "+string(typ)+"\n") {
				seen[string(typ)] = true
			}
		}
	}
	for typ, k := range volumeKnowledge {
		if !seen[string(typ)] || k.meaning == "" || k.goRuntime == "" || k.runtimeRS == "" || k.here == "" {
			t.Errorf("%s is not explained: %+v", typ, k)
		}
	}
	for typ, k := range optionKnowledge {
		if k.meaning == "" || k.goRuntime == "" || k.runtimeRS == "" || k.here == "" {
			t.Errorf("%q is not explained: %+v", typ, k)
		}
	}
}

func TestOptionErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"decode", "hello"}, "neither JSON nor base64", cli.ExitFailure},
		{[]string{"decode", "e30="}, "decode ExtraOption: source is missing", cli.ExitFailure},
		{[]string{"encode"}, "either FILE or --type", cli.ExitUsage},
		{[]string{"encode", "--type", "raw-layer-block", "x.json"}, "either FILE or --type", cli.ExitUsage},
		{[]string{"encode", "--type", "raw_layer_block"}, `volume_type "raw_layer_block" is unknown`, cli.ExitFailure},
		{[]string{"encode", "--type", "raw-layer-block"}, "source is missing", cli.ExitFailure},
		{[]string{"encode", "--type", "raw-layer-block", "--source", "/a", "--verity", "x"}, "--verity: --format", cli.ExitUsage},
		{[]string{"encode", "--type", "layer_raw_block", "--source", "/a", "--fs-version", "v6"}, "--fs-version is an", cli.ExitUsage},
		{[]string{"encode", "--type", "raw-layer-block", "--fs-type", "xfs"}, "are a KataVirtualVolume's", cli.ExitUsage},
		{[]string{"encode", "--type", "runtime-agent-pull", "--label", "a=b", "--config", "x"}, "leave out --config", cli.ExitUsage},
		{[]string{"encode", "--type", "layer_raw_block", "--volume", "/a", "--source", "/b"}, "no such file", cli.ExitFailure},
		{[]string{"encode", "--number", "-1", "--type", "raw-layer-block"}, "--number -1 is negative", cli.ExitUsage},
		{[]string{"encode", "--as", "json", "-"}, "must be one of (base64|annotation|mount-option)", cli.ExitUsage},
		{[]string{"encode", "/nonexistent"}, "no such file", cli.ExitFailure},
	} {
		out, err := option(t, "", c.args...)
		if err == nil || !strings.Contains(err.Error(), c.want) || cli.ExitCode(err) != c.code || out != "" {
			t.Errorf("%q: %q, %v (%d); want %q (%d)", c.args, out, err, cli.ExitCode(err), c.want, c.code)
		}
	}
}
