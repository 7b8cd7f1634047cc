package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// newShowCommand prints a run that "bench --format json" has written down, for people.
func newShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show RESULT.json",
		Short: "Print the tables of a run",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := readResult(args[0])
			if err != nil {
				return err
			}
			return r.printText(cmd.OutOrStdout())
		},
	}
}

func readResult(path string) (*result, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &result{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w: is it of \"bench --format json\"?", path, err)
	}
	return r, nil
}
