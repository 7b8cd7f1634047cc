package manual

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// sample is a command with everything that a text can have.
func sample() *cobra.Command {
	root := &cobra.Command{Use: "tool", Short: "Do things"}
	root.AddGroup(&cobra.Group{ID: "a", Title: "Group A:"})
	sub := &cobra.Command{
		Use: "make [flags] FILE", Short: "Make it's file.", GroupID: "a", Run: func(*cobra.Command, []string) {},
		Long: `make makes. Globs such as *.crt and a_b_c stay, and so does a \backslash.
.dot at the beginning of a line

KIND is one of
  first       the first
  second one  the second, whose description
              goes on

  $ mount -t erofs 'a file' ^~
     |
EXIT STATUS
  0  done`,
		Example: "  tool make 'x'",
	}
	sub.Flags().IntP("jobs", "j", 4, "how many `N`umber of jobs")
	sub.Flags().Bool("dry-run", false, "do nothing")
	root.AddCommand(sub, &cobra.Command{Use: "hidden", Hidden: true, Run: func(*cobra.Command, []string) {}})
	root.PersistentFlags().String("log-level", "info", "how much to log")
	return root
}

var source = Source{Section: "1", Date: "2026-01-02", Version: "v1.2", SeeAlso: []string{"crio(8)"}}

func TestPages(t *testing.T) {
	pages := Pages(sample(), source)
	if len(pages) != 2 || pages["tool.1"] == "" {
		t.Fatalf("got pages %d: %v", len(pages), pages)
	}
	shown := show(t, pages["tool-make.1"])
	for _, want := range []string{
		"tool-make - make it's file", "tool make [flags] FILE", "Globs such as *.crt and a_b_c stay, and so does a \\backslash.",
		".dot at the beginning of a line", "second one\n", "the second, whose description goes on",
		"$ mount -t erofs 'a file' ^~\n", "-j, --jobs N", "(default 4)", "OPTIONS OF ALL COMMANDS", "EXIT STATUS\n",
		"tool make 'x'", "tool(1), crio(8)", "2026-01-02",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in the page:\n%s", want, shown)
		}
	}
	if shown := show(t, pages["tool.1"]); !strings.Contains(shown, "Group A\n") || strings.Contains(shown, "hidden") {
		t.Errorf("the parent's page:\n%s", shown)
	}
}

// show has groff format a page, which must be without warnings.
func show(t *testing.T, roff string) string {
	t.Helper()
	program, err := exec.LookPath("groff")
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(path, []byte(roff), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-man", "-Tutf8", "-P-c", "-P-b", "-P-u", "-ww", "-rLL=200n", path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("groff: %v: %s\n%s", err, stderr.String(), roff)
	}
	return string(out)
}

func TestCompletions(t *testing.T) {
	dir := t.TempDir()
	if err := Completions(sample(), dir); err != nil {
		t.Fatal(err)
	}
	for shell, file := range map[string]string{"bash": "tool", "zsh": "_tool", "fish": "tool.fish"} {
		path := filepath.Join(dir, shell, file)
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		if out, err := exec.Command(shell, "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s -n %s: %v: %s", shell, file, err, out)
		}
	}
}
