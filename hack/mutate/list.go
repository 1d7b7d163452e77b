package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// mutation is one fault.
type mutation struct {
	// Name says what is wrong with the mutated program: "an expired token is accepted".
	Name string `json:"name"`
	// File is the file to change, by its path from the root of the tree.
	File string `json:"file"`
	// Old is a text that the file has exactly once. New replaces it; without New, Old is deleted.
	Old string `json:"old"`
	New string `json:"new,omitempty"`
	// Test is the package whose tests must notice, by its path from the root of the tree; by default the file's own.
	Test string `json:"test,omitempty"`
	// Run limits the tests, as "go test -run" does.
	Run string `json:"run,omitempty"`

	// area is the name of the mutation's list.
	area string
}

// load reads the lists of a folder, one file for each area.
func load(folder string) ([]mutation, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, errors.Join(err, fmt.Errorf("%s has no list of mutations", folder))
	}
	var all []mutation
	names := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var list []mutation
		if err := yaml.UnmarshalStrict(data, &list); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, m := range list {
			m.area = strings.TrimSuffix(filepath.Base(file), ".yaml")
			if m.Test == "" {
				m.Test = filepath.Dir(m.File)
			}
			if err := m.validate(); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", file, m.Name, err)
			}
			if names[m.String()] {
				return nil, fmt.Errorf("%s: %q is there twice", file, m.Name)
			}
			names[m.String()] = true
			all = append(all, m)
		}
	}
	return all, nil
}

func (m mutation) validate() error {
	switch _, err := regexp.Compile(m.Run); {
	case m.Name == "" || m.File == "" || m.Old == "":
		return errors.New("name, file and old are required")
	case m.Old == m.New:
		return errors.New("old and new are the same")
	case !filepath.IsLocal(m.File) || !filepath.IsLocal(m.Test):
		return errors.New("file and test must be paths below the root of the tree")
	default:
		return err
	}
}

// String names the mutation and its area.
func (m mutation) String() string { return m.area + ": " + m.Name }
