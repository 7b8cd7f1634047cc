package docs_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/crio-erofs/crio-erofs/test/env"
)

// notRun has the reasons for which a block of commands is not run.
var notRun = map[string]string{
	"cluster":   "needs Kubernetes or OpenShift",
	"systemd":   "needs systemd as the first process",
	"build":     "builds, tests or measures all of the project; CI does that by itself",
	"kata":      "needs Kata Containers, which no package registry has",
	"node":      "needs a node in a certain state, which the text describes",
	"elsewhere": "is for other programs, or for another machine",
	"synopsis":  "is no command but a form of one",
}

// page is a Markdown file.
type page struct {
	name   string // below the repository's root
	lines  []string
	blocks []block
}

// block is a fenced block.
type block struct {
	line   int // of its first fence, from 1
	lang   string
	lines  []string
	notRun string // what the comment before it says
}

// command is one command of a block, and what is shown after it.
type command struct {
	page   string
	line   int
	text   string
	output []string
	strict bool // of a block without prompts: every part must succeed
}

func (c command) String() string { return fmt.Sprintf("%s:%d: %s", c.page, c.line, c.text) }

// root returns the top of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := env.Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// pages reads all Markdown files that git knows, or would add.
func pages(t *testing.T) []page {
	t.Helper()
	top := root(t)
	cmd := exec.Command("git", "ls-files", "-co", "--exclude-standard", "*.md")
	cmd.Dir = top
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	var list []page
	for _, name := range strings.Fields(string(out)) {
		if strings.Contains(name, "testdata/") {
			continue
		}
		p, err := readPage(top, name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("only %d pages: %q", len(list), out)
	}
	return list
}

var notRunComment = regexp.MustCompile(`^\s*<!-- not run: (.*) -->$`)

func readPage(top, name string) (page, error) {
	f, err := os.Open(filepath.Join(top, name))
	if err != nil {
		return page{}, err
	}
	defer f.Close()
	p := page{name: name}
	var open *block
	comment := ""
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		line := s.Text()
		p.lines = append(p.lines, line)
		trimmed := strings.TrimSpace(line)
		switch {
		case open != nil && trimmed == "```":
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		case strings.HasPrefix(trimmed, "```"):
			open = &block{line: n, lang: strings.TrimPrefix(trimmed, "```"), notRun: comment}
			comment = ""
		case trimmed != "":
			comment = ""
			if m := notRunComment.FindStringSubmatch(line); m != nil {
				comment = m[1]
			}
		}
	}
	if open != nil {
		return p, fmt.Errorf("%s:%d: the block has no end", name, open.line)
	}
	return p, s.Err()
}

// commands takes a block apart.
func (b block) commands(p page) []command {
	indent := leading(b.lines)
	if b.lang == "sh" {
		var text []string
		for _, line := range b.lines {
			text = append(text, strings.TrimPrefix(line, indent))
		}
		return []command{{page: p.name, line: b.line + 1, text: strings.Join(text, "\n"), strict: true}}
	}
	var list []command
	for i := 0; i < len(b.lines); i++ {
		line := strings.TrimPrefix(b.lines[i], indent)
		text, ok := strings.CutPrefix(line, "$ ")
		if !ok {
			text, ok = strings.CutPrefix(line, "# ")
		}
		if !ok {
			if len(list) == 0 {
				return nil // not console: the caller complains
			}
			last := &list[len(list)-1]
			last.output = append(last.output, line)
			continue
		}
		c := command{page: p.name, line: b.line + 1 + i, text: text}
		for strings.HasSuffix(c.text, "\\") && i+1 < len(b.lines) {
			i++
			c.text += "\n" + strings.TrimPrefix(strings.TrimPrefix(b.lines[i], indent), "> ")
		}
		list = append(list, c)
	}
	return list
}

// leading returns the white space that all lines begin with, as in a list.
func leading(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	first := lines[0]
	return first[:len(first)-len(strings.TrimLeft(first, " "))]
}

// programs are first words of lines that look like commands.
var programs = []string{
	"make", "go", "kubectl", "oc", "podman", "docker", "systemctl", "crio", "crio-erofs", "crio-erofs-hook", "crictl", "apt",
	"apt-get", "dnf", "rpm", "dpkg", "ln", "cp", "rm", "mkdir", "mount", "umount", "semodule", "restorecon", "git", "butane",
	"skopeo", "cosign", "veritysetup", "journalctl", "containerd-shim-kata-v2", "sudo", "$", "#",
}

// TestBlocks wants every block of commands to be one that is run, or to say why it is not.
func TestBlocks(t *testing.T) {
	ran, left := 0, map[string]int{}
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			reason, _, _ := strings.Cut(b.notRun, ":")
			switch {
			case b.notRun != "":
				if notRun[reason] == "" {
					t.Errorf("%s:%d: %q is none of the reasons that doc.go speaks of", p.name, b.line, reason)
				}
				left[reason]++
			case b.lang == "console" || b.lang == "sh":
				if len(b.commands(p)) == 0 {
					t.Errorf("%s:%d: no line begins with a prompt", p.name, b.line)
				}
				ran++
			case b.lang == "" || b.lang == "bash" || b.lang == "shell":
				for i, line := range b.lines {
					if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(programs, fields[0]) {
						t.Errorf("%s:%d: %q looks like a command: make the block one of console or sh", p.name, b.line+1+i, line)
					}
				}
			}
		}
	}
	t.Logf("%d blocks of commands are run", ran)
	for reason, n := range left {
		t.Logf("%d are not: %s (%s)", n, reason, notRun[reason])
	}
}

// TestParse tries the reading of blocks on one with everything in it.
func TestParse(t *testing.T) {
	const text = "# x\n\n<!-- not run: cluster: why -->\n\n```sh\na\nb\n```\n1. list\n\n   ```console\n   $ one \\\n   > two\n" +
		"   out\n   # three\n   ```\n"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.md"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := readPage(dir, "x.md")
	if err != nil || len(p.blocks) != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	if b := p.blocks[0]; b.notRun != "cluster: why" || b.commands(p)[0].text != "a\nb" {
		t.Errorf("%+v", b)
	}
	got := p.blocks[1].commands(p)
	want := []command{
		{page: "x.md", line: 12, text: "one \\\ntwo", output: []string{"out"}}, {page: "x.md", line: 15, text: "three"},
	}
	if p.blocks[1].notRun != "" || len(got) != 2 || got[0].String() != want[0].String() || got[1].String() != want[1].String() ||
		!slices.Equal(got[0].output, want[0].output) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
