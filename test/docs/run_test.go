package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// mark stands before the number of a command, and then before its exit status, in a page's output.
const mark = "\x1e"

// TestCommands runs every page's commands.
func TestCommands(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a node of its own needs root")
	}
	for _, name := range []string{"crio", "crio-erofs"} {
		if _, err := env.Bin(name); errors.Is(err, os.ErrNotExist) && os.Getenv("CI") == "" {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	node := startNode(t)
	for _, p := range pages(t) {
		var commands []command
		for _, b := range p.blocks {
			if b.notRun == "" && (b.lang == "console" || b.lang == "sh") {
				commands = append(commands, b.commands(p)...)
			}
		}
		for _, c := range commands {
			if strings.Contains(c.text, "/tmp/") {
				t.Errorf("%v\nwrites to the machine's own directory, where it would stay: use the working directory", c)
			}
		}
		if len(commands) > 0 {
			t.Run(p.name, func(t *testing.T) { node.run(t, commands) })
		}
	}
}

// script makes one shell script of a page's commands, with marks in the output.
func script(setup string, commands []command) string {
	var b strings.Builder
	fmt.Fprintln(&b, setup)
	for i, c := range commands {
		fmt.Fprintf(&b, "echo; echo '%s%d'\n", mark, i)
		if c.strict {
			fmt.Fprintf(&b, "set -e\n%s\nset +e\nfalse || true\n", c.text)
		} else {
			fmt.Fprintln(&b, c.text)
		}
		fmt.Fprintf(&b, "docs_status=$?; echo; echo '%s='$docs_status\n", mark)
	}
	return b.String()
}

// run runs a page's commands in one shell, and compares.
func (n node) run(t *testing.T, commands []command) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "page.sh")
	setup, err := os.ReadFile("setup.sh")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(script(string(setup), commands)), 0o600); err != nil {
		t.Fatal(err)
	}
	// With a PID namespace, nothing that a page has started outlives it.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
		"--mount-proc", "bash", file)
	cmd.Env = append(os.Environ(), n.environment(t)...)
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if n := compare(t, commands, out.String()); n < len(commands) {
		t.Errorf("%v\nended the shell: %v\n%s", commands[n], err, short(strings.ReplaceAll(out.String(), mark, "§")))
	}
}

// short returns the last lines of a text, none of them long.
func short(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if n := len(lines) - 40; n > 0 {
		lines = append([]string{fmt.Sprintf("(%d lines)", n)}, lines[n:]...)
	}
	for i, line := range lines {
		if r := []rune(line); len(r) > 200 {
			lines[i] = string(r[:200]) + "…"
		}
	}
	return strings.Join(lines, "\n")
}

// part is what one command printed: its number, the text, the exit status.
var part = regexp.MustCompile(`(?s)\n` + mark + `(\d+)\n(.*?)\n` + mark + `=(\d+)\n`)

// compare holds the output of a page's shell against the page, and returns how many commands ended.
func compare(t *testing.T, commands []command, output string) int {
	t.Helper()
	parts := part.FindAllStringSubmatch(output, -1)
	for i, c := range commands {
		if i >= len(parts) {
			return i
		}
		text, status := parts[i][2], parts[i][3]
		if n, err := strconv.Atoi(parts[i][1]); err != nil || n != i {
			t.Fatalf("%v: part %d of the output has number %s", c, i, parts[i][1])
		}
		if len(c.output) == 0 && status != "0" {
			t.Errorf("%v\nexit status %s:\n%s", c, status, short(text))
		}
		if len(c.output) > 0 && !matches(c.output, text) {
			t.Errorf("%v\nprints\n%s\nwhich is not\n%s", c, short(text), strings.Join(c.output, "\n"))
		}
	}
	return len(commands)
}

// matches compares what is shown with what was printed, without white space at the ends of lines, or empty lines at the end.
// Tables are as wide as their contents, so that any number of blanks is like any other.
func matches(shown []string, printed string) bool {
	var pattern strings.Builder
	for _, line := range trimLines(shown) {
		if strings.TrimSpace(line) == "..." {
			pattern.WriteString(`(?:.*\n)*?`)
			continue
		}
		quoted := regexp.QuoteMeta(strings.ReplaceAll(line, "…", "..."))
		pattern.WriteString(strings.ReplaceAll(quoted, `\.\.\.`, `.*?`) + `\n`)
	}
	text := strings.ReplaceAll(strings.Join(trimLines(strings.Split(printed, "\n")), "\n"), "…", "...") + "\n"
	return regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(text)
}

var blanks = regexp.MustCompile(` +`)

func trimLines(lines []string) []string {
	var out []string
	for _, line := range lines {
		out = append(out, blanks.ReplaceAllString(strings.TrimRight(line, " \t"), " "))
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// TestMatches makes sure that the comparison can fail.
func TestMatches(t *testing.T) {
	for _, c := range []struct {
		shown, printed string
		want           bool
	}{
		{"a\nb", "a  \nb\n\n", true}, {"a\nb", "a\nc", false}, {"a", "a\nb", false}, {"...\nb", "a\nc\nb", true},
		{"a ... c", "a b c", true}, {"a ... c", "a b d", false}, {"a.c", "abc", false}, {"a\n...", "a\nb\nc", true},
		{"a…", "abc", true},
		{"A  B", "A      B", true}, {"A B", "AB", false},
	} {
		if got := matches(strings.Split(c.shown, "\n"), c.printed); got != c.want {
			t.Errorf("%q against %q: %v", c.shown, c.printed, got)
		}
	}
}
