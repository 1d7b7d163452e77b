// Command notices prints the licence and notice texts of everything that is compiled into Caly's programs:
//
//	go run ./hack/notices ./cmd/caly ./cmd/caly-upload > THIRD_PARTY_NOTICES
//
// It reads the packages that the programs really import on Linux, not all that go.mod names. Run it at the root of the
// repository. The output depends on go.mod and on the licence of the Go distribution alone.
package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// architectures are those of the images. A package may be imported on one of them only.
var architectures = []string{"amd64", "arm64"}

// zxcvbn is the licence of the word lists in internal/password/common.txt, which no module brings.
//
//go:embed zxcvbn/LICENSE
var zxcvbn string

// licenceName matches the files that hold a licence, a notice or a grant of patents.
var licenceName = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|copyright|notice|patents)s?([._-].*)?$`)

// sourceName matches Go files, whose names may begin like those of licences.
var sourceName = regexp.MustCompile(`(?i)\.(go|s|tmpl)$`)

// component is a module, or the Go standard library, with the licence files that cover its packages.
type component struct {
	name    string
	version string
	files   map[string]string // by path inside of the module
}

// text is one licence text with the files that hold it.
type text struct {
	content string
	files   []string
}

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

// run prints the notices of the programs.
func run(out io.Writer, programs []string) error {
	if len(programs) == 0 {
		return errors.New("name the packages of the programs, such as ./cmd/caly")
	}
	byName := map[string]*component{}
	for _, arch := range architectures {
		packages, err := list(arch, programs)
		if err != nil {
			return err
		}
		if err := collect(byName, packages); err != nil {
			return err
		}
	}
	components := make([]*component, 0, len(byName)+1)
	for _, c := range byName {
		components = append(components, c)
	}
	slices.SortFunc(components, func(a, b *component) int { return cmp.Compare(a.name, b.name) })
	standard, err := standardLibrary()
	if err != nil {
		return err
	}
	words := &component{
		name:  "The frequency lists of zxcvbn, in internal/password/common.txt",
		files: map[string]string{"LICENSE": tidy([]byte(zxcvbn))},
	}
	return write(out, append([]*component{standard, words}, components...))
}

// goPackage is what "go list -json" says about a package.
type goPackage struct {
	Dir    string
	Module *module
}

// module is what "go list -json" says about the module of a package.
type module struct {
	Path    string
	Version string
	Dir     string
	Main    bool
}

// list returns the packages of other modules that the programs import on Linux with the architecture.
func list(arch string, programs []string) ([]goPackage, error) {
	command := exec.Command("go", append([]string{"list", "-deps", "-json=Dir,Module"}, programs...)...)
	command.Env = append(os.Environ(),
		"GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list for %s: %w", arch, err)
	}
	var packages []goPackage
	decoder := json.NewDecoder(bytes.NewReader(output))
	for {
		var found goPackage
		if err := decoder.Decode(&found); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("output of go list: %w", err)
		}
		if found.Module != nil && !found.Module.Main {
			packages = append(packages, found)
		}
	}
}

// collect adds the packages' modules to the components, with the licence files of every folder from the package up to
// the root of its module: a copied package often has a licence of its own.
func collect(components map[string]*component, packages []goPackage) error {
	for _, p := range packages {
		c := components[p.Module.Path]
		if c == nil {
			c = &component{name: p.Module.Path, version: p.Module.Version, files: map[string]string{}}
			components[p.Module.Path] = c
		}
		for folder := p.Dir; ; folder = filepath.Dir(folder) {
			if err := c.add(p.Module.Dir, folder); err != nil {
				return err
			}
			if folder == p.Module.Dir || len(folder) < len(p.Module.Dir) {
				break
			}
		}
	}
	for _, c := range components {
		if len(c.files) == 0 {
			return fmt.Errorf(
				"module %s %s has no licence file; do not ship it before its licence is known", c.name, c.version,
			)
		}
	}
	return nil
}

// add reads the licence files of a folder, and those of its folders LICENSE or LICENSES.
func (c *component) add(root, folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return fmt.Errorf("module %s: %w", c.name, err)
	}
	for _, entry := range entries {
		if !licenceName.MatchString(entry.Name()) || sourceName.MatchString(entry.Name()) {
			continue
		}
		if err := c.read(root, filepath.Join(folder, entry.Name())); err != nil {
			return fmt.Errorf("module %s: %w", c.name, err)
		}
	}
	return nil
}

// read reads a file, or the files of a folder and the folders in it.
func (c *component) read(root, name string) error {
	return filepath.WalkDir(name, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || sourceName.MatchString(file) {
			return err
		}
		inside, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		c.files[filepath.ToSlash(inside)] = tidy(content)
		return nil
	})
}

// standardLibrary returns the Go standard library, which every program contains together with Go's runtime. Its version
// is that of the compiler and not written down: it changes with the machine.
func standardLibrary() (*component, error) {
	output, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	root := strings.TrimSpace(string(output))
	c := &component{name: "The Go standard library and runtime", files: map[string]string{}}
	if err := c.add(root, root); err != nil {
		return nil, err
	}
	if c.files["LICENSE"] == "" {
		return nil, fmt.Errorf("%s has no file LICENSE; use a Go distribution from https://go.dev/dl", root)
	}
	return c, nil
}

// tidy returns the text with Unix line ends and without spaces at the ends of lines and of the text.
func tidy(content []byte) string {
	lines := strings.Split(strings.ReplaceAll(string(content), "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " \t\f\r")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// write prints a list of the components, then each text once with the files that hold it.
func write(out io.Writer, components []*component) error {
	var b strings.Builder
	b.WriteString("Caly's programs contain the code and data below. The licences follow, each text once,\n" +
		"with the files that hold it. Generated by hack/notices: do not edit; run 'make generate'.\n\n")
	for _, c := range components {
		fmt.Fprintf(&b, "  %s\n", strings.TrimSpace(c.name+" "+c.version))
	}
	for _, t := range texts(components) {
		b.WriteString("\n" + strings.Repeat("=", 100) + "\n")
		for _, file := range t.files {
			b.WriteString(file + "\n")
		}
		b.WriteString(strings.Repeat("-", 100) + "\n\n" + t.content + "\n")
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// texts returns the texts in the order of the components' names, each with the files that hold it.
func texts(components []*component) []*text {
	var ordered []*text
	byContent := map[string]*text{}
	for _, c := range components {
		names := make([]string, 0, len(c.files))
		for name := range c.files {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			content := c.files[name]
			if content == "" {
				continue
			}
			t := byContent[content]
			if t == nil {
				t = &text{content: content}
				byContent[content] = t
				ordered = append(ordered, t)
			}
			t.files = append(t.files, c.name+": "+name)
		}
	}
	return ordered
}
