package docs_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// link is a Markdown link, or an image or source of one in HTML.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|href|srcset)="([^"]+)"`)

// heading is a heading of a page.
var heading = regexp.MustCompile(`^#{1,6} (.*)$`)

// anchorOf returns the name that GitHub gives to a heading: letters, digits, hyphens and underscores, spaces as hyphens.
func anchorOf(text string) string {
	text = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(text, "$1")
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(text)) {
		switch {
		case r == ' ':
			b.WriteRune('-')
		case r == '-', r == '_', r >= '0' && r <= '9', r >= 'a' && r <= 'z', r > 127:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// anchors returns the anchors of a page.
func (p page) anchors() map[string]bool {
	names := map[string]bool{}
	inside := map[int]bool{}
	for _, b := range p.blocks {
		for i := range b.lines {
			inside[b.line+i] = true // the index of the line after the fence
		}
	}
	for i, line := range p.lines {
		if m := heading.FindStringSubmatch(line); m != nil && !inside[i] {
			names[anchorOf(m[1])] = true
		}
	}
	return names
}

// TestLinks follows every link to a file or heading.
func TestLinks(t *testing.T) {
	all := map[string]page{}
	for _, p := range pages(t) {
		all[p.name] = p
	}
	n := 0
	for _, p := range all {
		for i, line := range p.lines {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				target := m[1] + m[2]
				if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
					continue
				}
				n++
				checkLink(t, all, p, i+1, target)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d links: the test does not see them", n)
	}
}

func checkLink(t *testing.T, all map[string]page, p page, line int, target string) {
	t.Helper()
	file, anchor, _ := strings.Cut(target, "#")
	name := p.name
	if file != "" {
		name = path.Join(path.Dir(p.name), file)
	}
	if _, err := os.Stat(filepath.Join(root(t), name)); err != nil {
		t.Errorf("%s:%d: %v", p.name, line, err)
		return
	}
	if other, ok := all[name]; anchor != "" && (!ok || !other.anchors()[anchor]) {
		t.Errorf("%s:%d: %s has no heading for #%s", p.name, line, name, anchor)
	}
}

// TestIndex wants every page of docs to be in the index.
func TestIndex(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(root(t), "docs/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages(t) {
		if dir, name := path.Split(p.name); dir == "docs/" && name != "README.md" &&
			!strings.Contains(string(index), "]("+name) {
			t.Errorf("docs/README.md does not name %s", name)
		}
	}
}
