package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/crio-erofs/crio-erofs/driver"
	"github.com/crio-erofs/crio-erofs/hooks/nriconf"
	"github.com/crio-erofs/crio-erofs/kata"
)

// row is a row of a table: what is in backticks in the first cell, and the other cells.
var row = regexp.MustCompile("^\\| `([^`]+)` \\| (.*) \\|$")

// settings returns the tables of docs/configure.md by the heading that they are under: keys, and what is said of them.
func settings(t *testing.T) map[string]map[string]string {
	t.Helper()
	p, err := readPage(root(t), "docs/configure.md")
	if err != nil {
		t.Fatal(err)
	}
	tables, under := map[string]map[string]string{}, ""
	for _, line := range p.lines {
		if m := heading.FindStringSubmatch(line); m != nil {
			under = m[1]
			tables[under] = map[string]string{}
		} else if m := row.FindStringSubmatch(line); m != nil {
			tables[under][m[1]] += m[2]
		}
	}
	return tables
}

// wantKeys compares a table with the keys that the code has.
func wantKeys(t *testing.T, under string, want []string) map[string]string {
	t.Helper()
	table := settings(t)[under]
	if len(want) == 0 {
		t.Fatalf("%s: the test finds no keys in the code", under)
	}
	for _, key := range want {
		if table[key] == "" {
			t.Errorf("docs/configure.md, %s: no word about %s", under, key)
		}
	}
	for key := range table {
		if !slices.Contains(want, key) {
			t.Errorf("docs/configure.md, %s: the code knows no %s", under, key)
		}
	}
	return table
}

// TestDriverOptions compares the driver's options and their values with those of the error for an unknown one.
func TestDriverOptions(t *testing.T) {
	_, err := driver.CheckOptions([]string{"erofs.no-such-option=1"})
	if err == nil {
		t.Fatal("an unknown option is no error")
	}
	_, list, ok := strings.Cut(err.Error(), "valid are ")
	if !ok {
		t.Fatalf("the error for an unknown option does not list the valid ones: %v", err)
	}
	values := map[string][]string{}
	var keys []string
	for _, option := range strings.Split(list, ", ") {
		key, form, _ := strings.Cut(option, "=")
		keys = append(keys, key)
		if strings.Contains(form, "|") {
			values[key] = strings.Split(form, "|")
		}
	}
	for key, text := range wantKeys(t, "The storage driver", keys) {
		for _, value := range values[key] {
			if !strings.Contains(text, "`"+value+"`") {
				t.Errorf("docs/configure.md: no word about %s=%s", key, value)
			}
		}
	}
	if len(values) < 5 {
		t.Errorf("the test sees the values of %d options only: %v", len(values), err)
	}
}

// TestConfigKeys compares the keys of config.toml and of the plugin's settings with the fields that these are decoded to.
func TestConfigKeys(t *testing.T) {
	keys := tags(t, "kata/modes/parse.go", "toml")
	wantKeys(t, "Handlers and modes", keys)
	if len(keys) < 9 {
		t.Errorf("the test sees only the keys %v", keys)
	}
	var want []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[nriconf.Settings]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		want = append(want, name)
	}
	wantKeys(t, "The NRI plugin", want)
	wantKeys(t, "A pod", []string{kata.AnnotationRequest})
}

// tags returns the keys of a source file's structs.
func tags(t *testing.T, name, kind string) []string {
	t.Helper()
	var keys []string
	ast.Inspect(parse(t, name), func(n ast.Node) bool {
		if f, ok := n.(*ast.Field); ok && f.Tag != nil {
			tag, err := strconv.Unquote(f.Tag.Value)
			if err != nil {
				t.Fatal(err)
			}
			if key, _, _ := strings.Cut(reflect.StructTag(tag).Get(kind), ","); key != "" {
				keys = append(keys, key)
			}
		}
		return true
	})
	return keys
}

func parse(t *testing.T, name string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root(t), name), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestEnvironment looks for the names of environment variables in what runs on a node.
func TestEnvironment(t *testing.T) {
	found := map[string]bool{}
	for _, dir := range []string{"driver", "kata", "hooks", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root(t), dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name, err := filepath.Rel(root(t), path)
			if err != nil {
				return err
			}
			ast.Inspect(parse(t, name), func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					if v := strings.Trim(l.Value, "\"`"); regexp.MustCompile(`^(CRIO_EROFS|KATA_CONF)_[A-Z_]+$`).MatchString(v) {
						found[v] = true
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
	var want []string
	for name := range found {
		if !strings.Contains(name, "_TEST") {
			want = append(want, name)
		}
	}
	wantKeys(t, "Environment", want)
}

// TestCRIOKeys wants every key of CRI-O's that contrib's drop-ins set to be explained.
func TestCRIOKeys(t *testing.T) {
	table := settings(t)["CRI-O"]
	files, err := filepath.Glob(filepath.Join(root(t), "contrib/crio.conf.d/*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no drop-ins", err)
	}
	for _, file := range files {
		var content map[string]any
		meta, err := toml.DecodeFile(file, &content)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range meta.Keys() {
			if name := key[len(key)-1]; meta.Type(key...) != "Hash" && table[name] == "" {
				t.Errorf("docs/configure.md, CRI-O: no word about %s", name)
			}
		}
	}
}
