package messages

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// page is where messages are explained.
const page = "../../docs/troubleshooting.md"

// fragments returns the parts of messages that the page's tables have: the first cell of rows in tables "message has".
func fragments(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	inTable := false
	for line := range strings.Lines(string(text)) {
		cell, _, isRow := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		switch {
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case cell == "message has":
			inTable = true
		case inTable && isRow && strings.HasPrefix(cell, "`"):
			all = append(all, strings.ReplaceAll(strings.Trim(cell, "`"), `\"`, `"`))
		}
	}
	if len(all) < 30 {
		t.Fatalf("%s has only %d messages", page, len(all))
	}
	return all
}

// said returns every string constant of our programs, put together where the source has it in pieces.
func said(t *testing.T) (all []string) {
	t.Helper()
	for _, dir := range []string{"cmd", "driver", "hooks", "kata"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if e, ok := n.(ast.Expr); ok {
					if s, ok := constant(e); ok {
						all = append(all, s)
						return false
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// constant returns the value of a string literal, or of a sum with literals in it. A part that is not known is a %s.
func constant(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(e.Value)
		return s, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		x, xok := constant(e.X)
		y, yok := constant(e.Y)
		if !xok && !yok {
			return "", false
		}
		if !xok {
			x = "%s"
		}
		if !yok {
			y = "%s"
		}
		return x + y, true
	}
	return "", false
}

// TestSaid: every message of the page is one of the programs'.
func TestSaid(t *testing.T) {
	all := strings.Join(said(t), "\x00")
	for _, f := range fragments(t) {
		if !strings.Contains(all, f) {
			t.Errorf("%s explains %q, which no program says", page, f)
		}
	}
}

// TestExplained: every refusal that was provoked through CRI-O (test/crio, TestMessages) is explained.
func TestExplained(t *testing.T) {
	golden, err := os.ReadFile("../crio/testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	var patterns []*regexp.Regexp
	for _, f := range fragments(t) {
		// What is put in at %s and %d may be anything.
		p := regexp.MustCompile(`%[sdq]`).ReplaceAllString(regexp.QuoteMeta(f), ".*")
		patterns = append(patterns, regexp.MustCompile(p))
	}
	entries := strings.Split(strings.TrimSpace(string(golden)), "\n\n")
	if len(entries) < 15 {
		t.Fatalf("%d messages", len(entries))
	}
	for _, entry := range entries {
		name, message, _ := strings.Cut(entry, "\n")
		found := false
		for _, p := range patterns {
			found = found || p.MatchString(message)
		}
		if !found {
			t.Errorf("%s does not explain %s: %s", page, name, message)
		}
	}
}
