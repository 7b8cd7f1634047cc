package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/containers/common/pkg/report"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Names of formats.
const (
	nameTable      = "table"
	nameJSON       = "json"
	prefixTable    = nameTable + " "
	prefixTemplate = "go-template="
)

// Format is the value of --format. Its zero value is the table.
type Format struct {
	json     bool
	template string // of package report: with "table " in front if there are to be headings; empty: none
}

var _ pflag.Value = (*Format)(nil)

// AddFlag gives a command --format. row is an example of what it prints, or of one of a list: what templates can name.
func AddFlag(cmd *cobra.Command, f *Format, row any) {
	fields := templateFields(reflect.TypeOf(row), "")
	usage := "what to print: table, json, or a Go template"
	if len(fields) > 0 {
		usage += " such as '{{" + fields[0] + "}}' or 'table {{" + strings.Join(fields[:min(2, len(fields))], "}} {{") + "}}'"
	}
	cmd.Flags().Var(f, "format", usage)
	_ = cmd.RegisterFlagCompletionFunc("format", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		choices := []string{nameTable, nameJSON}
		for _, field := range fields {
			choices = append(choices, "{{"+field+"}}")
		}
		return choices, cobra.ShellCompDirectiveNoFileComp
	}) // fails only if the flag is not there
}

// templateFields returns what templates can name of a type, ".A" and ".B.C".
func templateFields(t reflect.Type, prefix string) (fields []string) {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	for i := range t.NumField() {
		field := t.Field(i)
		switch {
		case field.Anonymous && field.Type.Kind() == reflect.Struct:
			fields = append(fields, templateFields(field.Type, prefix)...)
		case field.IsExported():
			fields = append(fields, prefix+"."+field.Name)
		}
	}
	return fields
}

func (f *Format) String() string {
	switch {
	case f.json:
		return nameJSON
	case f.template != "":
		return f.template
	}
	return nameTable
}

// Type is what the flag's help calls its value.
func (f *Format) Type() string { return "FORMAT" }

// Set takes a format: "table", "json", a Go template, or "table" and a Go template for a table of one's own.
func (f *Format) Set(s string) error {
	switch text, isTemplate := strings.CutPrefix(s, prefixTemplate); {
	case s == nameTable:
		*f = Format{}
	case s == nameJSON:
		*f = Format{json: true}
	case isTemplate, strings.Contains(s, "{{"):
		if _, err := report.New(io.Discard, "format").Parse(report.OriginUser, text); err != nil {
			return errors.New(strings.TrimPrefix(err.Error(), "template: "))
		}
		*f = Format{template: text}
	default:
		return fmt.Errorf("must be %s, %s or a Go template such as '{{.Name}}' or 'table {{.Name}}'", nameTable, nameJSON)
	}
	return nil
}

// IsTable says whether the output is for people.
func (f *Format) IsTable() bool { return !f.json && f.template == "" }

// Print writes v as the format says: as JSON, through the template (each element of a list by itself), or as the
// blocks, with an empty line between them.
func (f *Format) Print(w io.Writer, v any, blocks ...Block) error {
	switch {
	case f.json:
		return JSON(w, v)
	case f.template != "":
		return f.execute(w, v)
	}
	return Blocks(w, blocks...)
}

// JSON writes v, indented. A list without elements is [], never null.
func JSON(w io.Writer, v any) error {
	if value := reflect.ValueOf(v); value.Kind() == reflect.Slice && value.IsNil() {
		v = []struct{}{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// execute has package report, which is podman's, do the template.
func (f *Format) execute(w io.Writer, v any) error {
	rows := reflect.ValueOf(v)
	if rows.Kind() != reflect.Slice {
		rows = reflect.Append(reflect.MakeSlice(reflect.SliceOf(rows.Type()), 0, 1), rows)
	}
	r, err := report.New(w, "format").Parse(report.OriginUser, f.template)
	if err != nil {
		return err
	}
	if row := elem(rows.Type().Elem()); r.RenderHeaders && row.Kind() == reflect.Struct {
		if err := r.Execute(report.Headers(reflect.New(row).Interface(), nil)); err != nil {
			return templateError(err)
		}
	}
	if err := r.Execute(rows.Interface()); err != nil {
		return templateError(err)
	}
	return r.Flush()
}

func elem(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func templateError(err error) error {
	return fmt.Errorf("--format: %s", strings.TrimPrefix(err.Error(), "template: "))
}
