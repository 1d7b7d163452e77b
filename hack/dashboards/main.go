// Command dashboards writes Caly's Grafana dashboards into the chart, one JSON file each.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// boards returns all dashboards, in the order of the list in docs/how-to/see-dashboards.md.
func boards() []board {
	return []board{overview(), webhooks(), recordings(), live(), accounts(), platform(), oneTenant()}
}

func main() {
	out := flag.String("out", "../../charts/caly/dashboards", "folder that gets the files and loses all others")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

// write replaces the content of the folder.
func write(out string) error {
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, b := range boards() {
		built, err := b.build()
		if err != nil {
			return fmt.Errorf("dashboard %q: %w", b.title, err)
		}
		text, err := json.MarshalIndent(built, "", "  ")
		if err != nil {
			return fmt.Errorf("dashboard %q: %w", b.title, err)
		}
		if err = os.WriteFile(filepath.Join(out, b.name+".json"), append(text, '\n'), 0o600); err != nil {
			return err
		}
	}
	return nil
}
