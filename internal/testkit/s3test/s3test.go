// Package s3test gives tests a real S3 server: versitygw over a temporary folder.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Server is one versitygw. It ends with the test, or with the test binary.
type Server struct {
	// Endpoint is a URL without a trailing slash.
	Endpoint, Region     string
	AccessKey, SecretKey string

	binary, dir, addr string
	process           *process
}

// process is one run of the server.
type process struct {
	kill   func() error
	exited chan struct{}
	output bytes.Buffer // read after exited only
}

// New starts a server.
func New(t testing.TB) *Server {
	t.Helper()
	binary, err := find()
	if err != nil {
		t.Fatal(err)
	}
	addr, err := freeAddr()
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	server := &Server{
		Endpoint:  "http://" + addr,
		Region:    "us-east-1",
		AccessKey: "caly-test",
		SecretKey: random(),
		binary:    binary,
		dir:       t.TempDir(),
		addr:      addr,
	}
	for _, d := range []string{"data", "meta"} {
		if err := os.MkdirAll(filepath.Join(server.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { server.Stop(t) })
	server.Start(t)
	return server
}

// Start brings a stopped server back, with its objects, and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if s.process != nil {
		return
	}
	process, err := s.launch()
	if err != nil {
		t.Fatalf("start versitygw: %v", err)
	}
	if err := s.wait(process); err != nil {
		_ = process.kill()
		<-process.exited
		t.Fatalf("versitygw: %v: %s", err, process.output.String())
	}
	s.process = process
}

// Stop kills the server; connections break, and new ones are refused.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.process == nil {
		return
	}
	if err := s.process.kill(); err != nil {
		t.Errorf("stop versitygw: %v", err)
	}
	<-s.process.exited
	s.process = nil
}

// launch starts the process on a thread of its own: the parent-death signal is tied to the thread that forked.
func (s *Server) launch() (*process, error) {
	p := &process{exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		//nolint:gosec // the tests' own tool
		cmd := exec.Command(s.binary, "--port", s.addr, "--region", s.Region, "--quiet", "--keep-alive", "posix",
			"--sidecar", filepath.Join(s.dir, "meta"), filepath.Join(s.dir, "data"))
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+s.AccessKey, "ROOT_SECRET_KEY="+s.SecretKey)
		cmd.Stdout = &p.output
		cmd.Stderr = &p.output
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		if err == nil {
			p.kill = cmd.Process.Kill
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed
		}
	}()
	return p, <-started
}

func (s *Server) wait(p *process) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 200 {
		select {
		case <-p.exited:
			return fmt.Errorf("it ended at once")
		case <-time.After(50 * time.Millisecond):
		}
		if resp, err := client.Get(s.Endpoint + "/"); err == nil { // any answer will do
			return resp.Body.Close()
		}
	}
	return fmt.Errorf("no answer on %s within 10 s", s.addr)
}

// Admin returns a plain client with every right, which sees what the store really has.
func (s *Server) Admin(t testing.TB) *minio.Core {
	t.Helper()
	core, err := minio.NewCore(s.addr, &minio.Options{
		Creds:  credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""),
		Region: s.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	return core
}

// NewBucket makes a bucket with a name of its own.
func (s *Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := "b-" + random()[:12]
	client := s.Admin(t).Client
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := client.MakeBucket(ctx, name, minio.MakeBucketOptions{Region: s.Region}); err != nil {
		t.Fatalf("make bucket: %v", err)
	}
	return name
}

// find looks in PATH, then where test/cluster/build.sh puts its programs.
func find() (string, error) {
	if path, err := exec.LookPath("versitygw"); err == nil {
		return path, nil
	}
	_, file, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(file), "../../../test/cluster/build.sh")
	out, err := exec.Command(script, "--print-bin").Output() //nolint:gosec // the repository's own script
	path := filepath.Join(strings.TrimSpace(string(out)), "versitygw")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("these tests need versitygw: run test/cluster/build.sh versitygw (%w)", err)
	}
	return path, nil
}

func freeAddr() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func random() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
