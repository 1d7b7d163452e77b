// Command image writes a container image from a static binary, without a container engine or a registry:
//
//	go run -C hack/image . --binary PATH --tag caly:dev --out FILE.tar
//
// The archive suits `docker load`, `ctr images import` and `kind load image-archive`. The same binary gives the same
// archive, byte for byte.
package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const caPath = "etc/ssl/certs/ca-certificates.crt"

// epoch is the time of everything in the image: a build's own clock would make every image a new one.
var epoch = time.Unix(0, 0).UTC()

type options struct {
	binary, also, tag, out, entrypoint, caBundle string
	licenses                                     []string
	user                                         int
}

func main() {
	o := options{}
	flag.StringVar(&o.binary, "binary", "", "static Linux binary to put into the image")
	flag.StringVar(&o.also, "also", "", "second static binary to add")
	flag.StringVar(&o.tag, "tag", "", "name and tag of the image, such as caly:dev")
	flag.StringVar(&o.out, "out", "", "archive to write")
	flag.StringVar(
		&o.entrypoint, "entrypoint", "", "absolute path of the binary inside the image (default: / and its name)",
	)
	flag.StringVar(
		&o.caBundle,
		"ca-certificates",
		"/"+caPath,
		"CA certificates to put into the image; left out when the file is missing",
	)
	flag.Func("license", "text file to put into the folder /licenses; may be repeated", func(file string) error {
		o.licenses = append(o.licenses, file)
		return nil
	})
	flag.IntVar(&o.user, "user", 65532, "numeric user and group that the image runs as")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.binary == "" || o.tag == "" || o.out == "" {
		return errors.New("--binary, --tag and --out are required")
	}
	ref, err := name.NewTag(o.tag)
	if err != nil {
		return fmt.Errorf("--tag: %w", err)
	}
	img, err := build(o)
	if err != nil {
		return err
	}
	return writeArchive(o.out, ref, img)
}

// build makes a one-layer image: the binary, the CA certificates and the few files that a static program looks for.
func build(o options) (v1.Image, error) {
	if o.user <= 0 {
		return nil, fmt.Errorf("--user %d: the image runs as an ordinary user, so a number above 0 is needed", o.user)
	}
	if o.entrypoint == "" {
		o.entrypoint = "/" + filepath.Base(o.binary)
	}
	if !path.IsAbs(o.entrypoint) || path.Clean(o.entrypoint) != o.entrypoint || o.entrypoint == "/" {
		return nil, fmt.Errorf("--entrypoint %q is not a clean absolute path", o.entrypoint)
	}
	arch, err := inspect(o.binary)
	if err != nil {
		return nil, err
	}
	content, err := layer(o)
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	)
	if err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	img, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer:   l,
		History: v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "hack/image"},
	})
	if err != nil {
		return nil, fmt.Errorf("append layer: %w", err)
	}
	user := strconv.Itoa(o.user)
	return mutate.ConfigFile(img, configFile(img, v1.Config{
		Entrypoint: []string{o.entrypoint},
		User:       user + ":" + user,
		WorkingDir: "/",
		Env:        []string{"PATH=/", "SSL_CERT_FILE=/" + caPath},
	}, arch))
}

func configFile(img v1.Image, c v1.Config, arch string) *v1.ConfigFile {
	f, err := img.ConfigFile()
	if err != nil {
		// An image built in memory from a layer that was read has its configuration.
		panic(err)
	}
	f = f.DeepCopy()
	f.OS = "linux"
	f.Architecture = arch
	f.Created = v1.Time{Time: epoch}
	f.Config = c
	return f
}

// inspect gives the binary's architecture and refuses what could not start in an image that holds nothing else.
func inspect(file string) (string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return "", fmt.Errorf("%s is not a Linux binary: %w", file, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "", fmt.Errorf(
				"%s is linked dynamically and the image has no libraries: build it with CGO_ENABLED=0", file,
			)
		}
	}
	switch f.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	default:
		return runtime.GOARCH, nil
	}
}

func layer(o options) ([]byte, error) {
	program, err := os.ReadFile(o.binary)
	if err != nil {
		return nil, err
	}
	var second []byte
	if o.also != "" {
		if _, err := inspect(o.also); err != nil {
			return nil, err
		}
		if second, err = os.ReadFile(o.also); err != nil {
			return nil, err
		}
	}
	roots, err := os.ReadFile(o.caBundle)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var buf bytes.Buffer
	w := layerWriter{tar: tar.NewWriter(&buf), made: map[string]bool{}}
	w.directory("tmp", 0o1777)
	w.file(
		"etc/passwd",
		0o644,
		fmt.Appendf(nil, "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:%d:%d:nonroot:/:/sbin/nologin\n", o.user, o.user),
	)
	w.file("etc/group", 0o644, fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", o.user))
	if len(roots) > 0 {
		w.file(caPath, 0o644, roots)
	}
	w.file(strings.TrimPrefix(o.entrypoint, "/"), 0o755, program)
	if second != nil {
		w.file(filepath.Base(o.also), 0o755, second)
	}
	for _, file := range o.licenses {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--license: %w", err)
		}
		w.file("licenses/"+filepath.Base(file), 0o644, content)
	}
	if err := w.close(); err != nil {
		return nil, fmt.Errorf("layer: %w", err)
	}
	return buf.Bytes(), nil
}

// layerWriter remembers the first error, so that its caller checks once.
type layerWriter struct {
	tar  *tar.Writer
	made map[string]bool
	err  error
}

func (w *layerWriter) directory(dir string, mode int64) {
	if dir == "." || w.made[dir] {
		return
	}
	w.directory(path.Dir(dir), 0o755)
	w.made[dir] = true
	w.write(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode}, nil)
}

func (w *layerWriter) file(file string, mode int64, content []byte) {
	w.directory(path.Dir(file), 0o755)
	w.write(tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: mode, Size: int64(len(content))}, content)
}

func (w *layerWriter) write(h tar.Header, content []byte) {
	if w.err != nil {
		return
	}
	h.ModTime = epoch
	h.Format = tar.FormatPAX
	if w.err = w.tar.WriteHeader(&h); w.err == nil {
		_, w.err = w.tar.Write(content)
	}
}

func (w *layerWriter) close() error {
	return errors.Join(w.err, w.tar.Close())
}

// writeArchive puts the archive in place by renaming, so that a reader never sees half of it.
func writeArchive(out string, ref name.Tag, img v1.Image) error {
	f, err := os.CreateTemp(filepath.Dir(out), filepath.Base(out)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(tarball.Write(ref, img, f), f.Chmod(0o644), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", out, err)
	}
	return os.Rename(f.Name(), out)
}
