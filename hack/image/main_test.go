package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// buildProgram compiles a tiny program the way the product is compiled.
func buildProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "caly")
	cmd := exec.Command("go", "build", "-o", binary, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

func testOptions(t *testing.T) options {
	t.Helper()
	dir := t.TempDir()
	bundle := filepath.Join(dir, "roots.crt")
	if err := os.WriteFile(bundle, []byte("roots\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return options{
		binary:     buildProgram(t),
		tag:        "caly:dev",
		out:        filepath.Join(dir, "caly.tar"),
		entrypoint: "/caly",
		user:       65532,
		caBundle:   bundle,
	}
}

func TestRunWritesALoadableImage(t *testing.T) {
	o := testOptions(t)
	if err := run(o); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag("caly:dev")
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(o.out, &tag)
	if err != nil {
		t.Fatalf("read the archive back: %v", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || config.OS != "linux" || config.Architecture == "" {
		t.Errorf("user %q, os %q, architecture %q", config.Config.User, config.OS, config.Architecture)
	}
	if len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != "/caly" {
		t.Errorf("entrypoint %q", config.Config.Entrypoint)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	rc, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	want, err := os.ReadFile(o.binary)
	if err != nil {
		t.Fatal(err)
	}
	got := entries(t, rc)
	if !bytes.Equal(got["caly"], want) {
		t.Error("the binary in the image differs from the one given")
	}
	if string(got[caPath]) != "roots\n" {
		t.Errorf("CA certificates: %q", got[caPath])
	}
	if _, ok := got["tmp/"]; !ok {
		t.Error("no /tmp")
	}
}

func TestLicensesAreInTheImage(t *testing.T) {
	o := testOptions(t)
	for _, name := range []string{"LICENSE", "THIRD_PARTY_NOTICES"} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte("text of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
		o.licenses = append(o.licenses, file)
	}
	content, err := layer(o)
	if err != nil {
		t.Fatal(err)
	}
	got := entries(t, bytes.NewReader(content))
	for _, name := range []string{"LICENSE", "THIRD_PARTY_NOTICES"} {
		if string(got["licenses/"+name]) != "text of "+name {
			t.Errorf("licenses/%s is %q", name, got["licenses/"+name])
		}
	}
	o.licenses = append(o.licenses, filepath.Join(t.TempDir(), "missing"))
	if _, err := layer(o); err == nil {
		t.Error("no error for a licence file that does not exist")
	}
}

// TestBaseImagesArePinned checks that each image that a build starts from is named by its digest: a tag can be moved.
func TestBaseImagesArePinned(t *testing.T) {
	const root = "../.."
	content, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`^\S+:\S+@sha256:[0-9a-f]{64}$`)
	stages := map[string]bool{"scratch": true}
	for line := range strings.Lines(string(content)) {
		words := slices.DeleteFunc(strings.Fields(line), func(word string) bool {
			return strings.HasPrefix(word, "--platform=")
		})
		switch {
		case len(words) >= 2 && words[0] == "FROM":
			if !stages[words[1]] && !pinned.MatchString(words[1]) {
				t.Errorf("Dockerfile: %q names an image without its digest", words[1])
			}
			if len(words) == 4 {
				stages[words[3]] = true
			}
		case len(words) >= 2 && words[0] == "COPY" && strings.HasPrefix(words[1], "--from="):
			if from := strings.TrimPrefix(words[1], "--from="); !stages[from] && !pinned.MatchString(from) {
				t.Errorf("Dockerfile: %q names an image without its digest", from)
			}
		}
	}
	for _, name := range []string{"LICENSE", "THIRD_PARTY_NOTICES"} {
		if !strings.Contains(string(content), name) {
			t.Errorf("Dockerfile does not copy %s into the image", name)
		}
	}
}

func entries(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	got := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s: time %v, owner %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		if got[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSameBinaryGivesTheSameArchive(t *testing.T) {
	o := testOptions(t)
	var archives [2][]byte
	for i := range archives {
		if err := run(o); err != nil {
			t.Fatal(err)
		}
		var err error
		if archives[i], err = os.ReadFile(o.out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("two archives of one binary differ")
	}
}

func TestSecondBinaryIsBesideTheFirst(t *testing.T) {
	o := testOptions(t)
	o.also = filepath.Join(t.TempDir(), "second")
	program, err := os.ReadFile(o.binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.also, program, 0o700); err != nil {
		t.Fatal(err)
	}
	content, err := layer(withEntrypoint(o))
	if err != nil {
		t.Fatal(err)
	}
	if got := entries(t, bytes.NewReader(content))["second"]; !bytes.Equal(got, program) {
		t.Errorf("the second binary has %d bytes in the image, want %d", len(got), len(program))
	}
	o.also = filepath.Join(t.TempDir(), "none")
	if _, err := layer(withEntrypoint(o)); err == nil {
		t.Error("a second binary that is not there is no error")
	}
}

func withEntrypoint(o options) options {
	o.entrypoint = "/" + filepath.Base(o.binary)
	return o
}

func TestMissingCertificatesAreLeftOut(t *testing.T) {
	o := testOptions(t)
	o.caBundle = filepath.Join(t.TempDir(), "none")
	content, err := layer(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := entries(t, bytes.NewReader(content))[caPath]; ok {
		t.Error("an image without certificates has a certificates file")
	}
}

// patched is a copy of a binary with one byte changed.
func patched(t *testing.T, binary string, at func([]byte) int, value byte) string {
	t.Helper()
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	data[at(data)] = value
	file := filepath.Join(t.TempDir(), "patched")
	if err := os.WriteFile(file, data, 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRunRefuses(t *testing.T) {
	good := testOptions(t)
	// The type of the first program header, which begins at the offset that stands in byte 32.
	dynamic := patched(t, good.binary, func(b []byte) int { return int(b[32]) }, byte(elf.PT_INTERP))
	text := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(*options)
	}{
		{"no binary", "required", func(o *options) { o.binary = "" }},
		{"root", "--user 0", func(o *options) { o.user = 0 }},
		{"bad tag", "--tag", func(o *options) { o.tag = "Not A Tag" }},
		{"relative entrypoint", "--entrypoint", func(o *options) { o.entrypoint = "caly" }},
		{"entrypoint that climbs", "--entrypoint", func(o *options) { o.entrypoint = "/../caly" }},
		{"a script", "not a Linux binary", func(o *options) { o.binary = text }},
		{"no such binary", "not a Linux binary", func(o *options) { o.binary = "/nowhere/caly" }},
		{"a dynamic binary", "linked dynamically", func(o *options) { o.binary = dynamic }},
		{"a dynamic second one", "linked dynamically", func(o *options) { o.also = dynamic }},
		{"the root as entrypoint", "--entrypoint", func(o *options) { o.entrypoint = "/" }},
		{"out in no folder", "no such file", func(o *options) { o.out = "/nowhere/caly.tar" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good
			c.change(&o)
			err := run(o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if left, _ := filepath.Glob(good.out + "*"); len(left) != 0 {
				t.Errorf("it leaves %v behind", left)
			}
		})
	}
}
