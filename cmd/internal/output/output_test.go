package output

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/creack/pty"
	"github.com/spf13/cobra"
)

type inner struct{ Layout string }

type row struct {
	inner
	ID       string `json:"id"`
	RootHash string `json:"root_hash"`
	Names    []string
}

var rows = []row{{inner{"aligned"}, "a", "11", []string{"x", "y"}}, {inner{"tarfs"}, "b<", "22", nil}}

func TestFormats(t *testing.T) {
	for _, c := range []struct {
		format string
		v      any
		want   string
	}{
		{"table", rows, "ID  ROOT HASH\na   11\n"},
		{"json", rows[1], "{\n  \"Layout\": \"tarfs\",\n  \"id\": \"b<\",\n  \"root_hash\": \"22\",\n  \"Names\": null\n}\n"},
		{"json", []row(nil), "[]\n"},
		{"{{.ID}}", rows, "a\nb<\n"},
		{"go-template={{.ID}} {{.Layout}}", rows, "a aligned\nb< tarfs\n"},
		{`{{.ID}}\t{{join .Names ","}}`, rows, "a\tx,y\nb<\t\n"},
		{"{{range .}}{{.ID}}{{end}}", rows, "ab<\n"},
		{"{{json .Names}}", rows[0], "[\"x\",\"y\"]\n"},
		{"{{.RootHash}}", &rows[1], "22\n"},
		{"table {{.ID}} {{.RootHash}}", rows, "ID          ROOT HASH\na           11\nb<          22\n"},
		{"table {{.ID}}", []*row{&rows[0]}, "ID\na\n"},
		{"{{.ID}}", []row{}, ""},
	} {
		var f Format
		if err := f.Set(c.format); err != nil {
			t.Errorf("%s: %v", c.format, err)
			continue
		}
		table := NewTable(Column{Name: "ID"}, Column{Name: "ROOT HASH"})
		table.Add("a", 11)
		var b bytes.Buffer
		if err := f.Print(&b, c.v, table); err != nil || b.String() != c.want {
			t.Errorf("%s: %v, %q; want %q", c.format, err, b.String(), c.want)
		}
	}
}

func TestFormatRefused(t *testing.T) {
	for format, want := range map[string]string{"xml": "must be table, json or a Go template", "{{if .ID}}": "unexpected EOF",
		"": "must be table", "{{nofunc .}}": `function "nofunc" not defined`} {
		if err := new(Format).Set(format); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", format, err, want)
		}
	}
	f := &Format{template: "{{.Nothing}}"}
	if err := f.Print(&bytes.Buffer{}, rows); err == nil || !strings.Contains(err.Error(), "can't evaluate field Nothing") {
		t.Error(err)
	}
}

func TestFlag(t *testing.T) {
	var f Format
	cmd := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return nil }}
	AddFlag(cmd, &f, &row{})
	if usage := cmd.Flag("format").Usage; !strings.Contains(usage, "'table {{.Layout}} {{.ID}}'") {
		t.Error(usage)
	}
	var b bytes.Buffer
	cmd.SetOut(&b)
	cmd.SetArgs([]string{"__complete", "--format", ""})
	if err := cmd.Execute(); err != nil || !strings.Contains(b.String(), "table\njson\n{{.Layout}}\n{{.ID}}\n") {
		t.Errorf("%v, %s", err, b.String())
	}
	if cmd.Flag("format").DefValue != "table" {
		t.Error(cmd.Flag("format").DefValue)
	}
}

// TestTableFits: only columns that may be are cut, the widest first, and not if there is no terminal.
func TestTableFits(t *testing.T) {
	table := NewTable(Column{Name: "NAME", Cut: 6}, Column{Name: "SIZE", Right: true}, Column{Name: "NOTE", Cut: 5})
	table.Add("registry.example.com/app", "1 MiB", "日本語のレイヤー")
	table.Add("x", Bad("12.5 MiB"), "")
	for width, want := range map[int]string{
		0: "NAME                          SIZE  NOTE\nregistry.example.com/app     1 MiB  日本語のレイヤー\nx                         12.5 MiB\n",
		40: "NAME                SIZE  NOTE\nregistry.exam…     1 MiB  日本語のレイ…\n" +
			"x               12.5 MiB\n",
		10: "NAME        SIZE  NOTE\nregis…     1 MiB  日本…\nx       12.5 MiB\n",
	} {
		var b bytes.Buffer
		if table.write(&b, &Screen{Width: width}); b.String() != want {
			t.Errorf("width %d:\n%s\nwant\n%s", width, b.String(), want)
		}
		if width != 40 {
			continue
		}
		for line := range strings.Lines(b.String()) {
			if w := textWidth(strings.TrimSuffix(line, "\n")); w > 40 {
				t.Errorf("%d wide: %s", w, line)
			}
		}
	}
}

func TestColour(t *testing.T) {
	tty, terminal, err := pty.Open()
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	defer terminal.Close()
	if err := pty.Setsize(terminal, &pty.Winsize{Cols: 33, Rows: 5}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if s := ScreenOf(terminal); *s != (Screen{Width: 33, Colour: true}) {
		t.Errorf("%+v", s)
	}
	t.Setenv("NO_COLOR", "1")
	if ScreenOf(terminal).Colour {
		t.Error("NO_COLOR is not heeded")
	}
	if s := ScreenOf(&bytes.Buffer{}); *s != (Screen{}) {
		t.Errorf("%+v", s)
	}
	devNull, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer devNull.Close()
	if s := ScreenOf(devNull); *s != (Screen{}) {
		t.Errorf("%+v", s)
	}
	var b bytes.Buffer
	Fields{{"a", Good("yes")}, {"long", Warn("")}}.write(&b, &Screen{Colour: true})
	if want := "a     \x1b[32myes\x1b[0m\nlong\n"; b.String() != want {
		t.Errorf("%q; want %q", b.String(), want)
	}
}

func TestBlocks(t *testing.T) {
	var b bytes.Buffer
	if err := Blocks(&b, Fields{}, Fields{{"a", "x\ny"}}, Text("one\ntwo\x1b[2J"), Text("")); err != nil {
		t.Fatal(err)
	}
	if want := "a  x\\ny\n\none\ntwo\\x1b[2J\n"; b.String() != want {
		t.Errorf("%q; want %q", b.String(), want)
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1024 (1 KiB)", 3432448: "3432448 (3.3 MiB)",
		1 << 40: "1099511627776 (1 TiB)", 1<<63 - 1: "9223372036854775807 (8 EiB)"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %s; want %s", n, got, want)
		}
	}
	if Size(12) != "12 B" || Size(-2048) != "-2 KiB" {
		t.Error(Size(12), Size(-2048))
	}
}

// FuzzEscape: what is printed holds nothing that a terminal obeys, and what was clean is as it was.
func FuzzEscape(f *testing.F) {
	for _, s := range []string{"a/b", "x\x1b[2J", "\xff", "日本", "\u202e", "\U000e0001", "\ufffd", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Escape(s)
		clean := utf8.ValidString(s)
		for _, r := range s {
			clean = clean && unicode.IsPrint(r)
		}
		if clean != (got == s) {
			t.Errorf("%q became %q", s, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q became %q, with %U", s, got, r)
			}
		}
	})
}
