package output

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Block is a part of what people see.
type Block interface {
	write(b *bytes.Buffer, s *Screen)
}

// Blocks writes blocks, with an empty line between them.
func Blocks(w io.Writer, blocks ...Block) error {
	s := ScreenOf(w)
	var all bytes.Buffer
	for _, block := range blocks {
		var b bytes.Buffer
		if block.write(&b, s); b.Len() == 0 {
			continue
		}
		if all.Len() > 0 {
			all.WriteByte('\n')
		}
		b.WriteTo(&all)
	}
	_, err := all.WriteTo(w)
	return err
}

// Text is a block of sentences, a line each.
type Text string

func (t Text) write(b *bytes.Buffer, _ *Screen) {
	for line := range strings.Lines(string(t)) {
		b.WriteString(Escape(strings.TrimSuffix(line, "\n")) + "\n")
	}
}

// Field is a line of Fields.
type Field struct {
	Name  string
	Value any
}

// Fields is a block of names and values, a line each. Values are never cut: people copy root hashes.
type Fields []Field

// Pairs returns fields of names and values that follow each other.
func Pairs(namesAndValues ...any) Fields {
	f := make(Fields, 0, len(namesAndValues)/2)
	for i := 0; i+1 < len(namesAndValues); i += 2 {
		f.Add(fmt.Sprint(namesAndValues[i]), namesAndValues[i+1])
	}
	return f
}

// Add adds a field.
func (f *Fields) Add(name string, value any) { *f = append(*f, Field{Name: name, Value: value}) }

// AddIf adds a field unless value is the empty string or nothing of its type.
func (f *Fields) AddIf(name string, value any) {
	if value != nil && !reflect.ValueOf(value).IsZero() {
		f.Add(name, value)
	}
}

func (f Fields) write(b *bytes.Buffer, s *Screen) {
	width := 0
	for _, field := range f {
		width = max(width, textWidth(field.Name))
	}
	for _, field := range f {
		c := cellOf(field.Value)
		b.WriteString(field.Name + strings.Repeat(" ", width-textWidth(field.Name)+gap) + s.paint(c.style, c.text))
		trimLine(b)
		b.WriteByte('\n')
	}
}

// trimLine takes away spaces at the end.
func trimLine(b *bytes.Buffer) {
	b.Truncate(len(bytes.TrimRight(b.Bytes(), " ")))
}
