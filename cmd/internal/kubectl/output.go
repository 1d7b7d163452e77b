package kubectl

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/caly-dev/caly/cmd/internal/cli"
)

// Formats of --output.
const (
	outputTable = "table"
	outputWide  = "wide"
	outputJSON  = "json"
	outputYAML  = "yaml"
	outputName  = "name"
)

func checkOutput(output string) error {
	formats := []string{outputTable, outputWide, outputJSON, outputYAML, outputName}
	if !slices.Contains(formats, output) {
		return cli.UsageError(nil, fmt.Errorf("--output %q is not one of %s", output, strings.Join(formats, ", ")))
	}
	return nil
}

// columns say how objects of a type are printed. Cells must be safe to print.
type columns[T any] struct {
	heading, wide []string
	// cells returns one cell for each heading, and then one for each wide heading.
	cells func(T) []string
	// name returns what the commands take as an argument.
	name func(T) string
}

// items are objects as JSON and YAML.
type items[T any] struct {
	Items []T  `json:"items"`
	More  bool `json:"more,omitempty"`
}

// printList prints objects in the format of --output. more says that there are others.
func printList[T any](cmd *cobra.Command, output string, list []T, more bool, c columns[T]) error {
	switch output {
	case outputJSON, outputYAML:
		return printObject(cmd, output, items[T]{Items: append([]T{}, list...), More: more})
	case outputName:
		for _, item := range list {
			cmd.Println(c.name(item))
		}
		return nil
	}
	heading := c.heading
	if output == outputWide {
		heading = slices.Concat(c.heading, c.wide)
	}
	if len(list) == 0 {
		cmd.PrintErrln("nothing found")
		return nil
	}
	err := cli.PrintTable(cmd.OutOrStdout(), strings.Join(heading, "\t"), list, func(item T) string {
		return strings.Join(c.cells(item)[:len(heading)], "\t")
	})
	if more {
		cmd.PrintErrln("there are more: raise --limit, or choose by flags")
	}
	return err
}

// printObject prints one object as JSON or YAML.
func printObject(cmd *cobra.Command, output string, object any) error {
	if output == outputJSON {
		return cli.PrintJSON(cmd.OutOrStdout(), object)
	}
	data, err := yaml.Marshal(object)
	if err == nil {
		_, err = cmd.OutOrStdout().Write(data)
	}
	return err
}

// pairs are the fields of one object that people read.
type pairs [][2]string

// add adds a field unless it is empty.
func (p *pairs) add(name, value string) {
	if value != "" {
		*p = append(*p, [2]string{name, cli.Clean(value)})
	}
}

// print prints the fields.
func (p pairs) print(cmd *cobra.Command) {
	width := 0
	for _, pair := range p {
		width = max(width, len(pair[0])+1)
	}
	for _, pair := range p {
		cmd.Printf("%-*s  %s\n", width, pair[0]+":", pair[1])
	}
}

// age returns how long ago a time was, as kubectl prints it.
func age(at time.Time) string { return duration.HumanDuration(time.Since(at)) }

// stamp returns a time as text; empty without one.
func stamp(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
