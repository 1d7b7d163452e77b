package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/secret"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

const (
	// tenantID under which the recordings are queued.
	tenantID = "bench/upload"
	bucket   = "caly-bench"
	region   = "us-east-1"
)

// rig is what both sides run against: one HTTP source, one S3 server, and the queue for caly.
type rig struct {
	o       options
	dir     string
	source  *source
	s3      *minio.Client
	db      *store.Operator
	config  string
	closers []func()
}

func newRig(ctx context.Context, o options) (_ *rig, err error) {
	r := &rig{o: o}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.dir, err = os.MkdirTemp("", "caly-bench-"); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, func() { _ = os.RemoveAll(r.dir) })
	if r.source, err = newSource(o.size); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.source.close)
	if r.db, err = store.OpenOperator(ctx, o.dsn, store.Options{}); err != nil {
		return nil, err
	}
	r.closers = append(r.closers, r.db.Close)
	if err := r.openBucket(ctx); err != nil {
		return nil, err
	}
	return r, r.writeConfig(ctx)
}

func (r *rig) close() {
	for i := len(r.closers) - 1; i >= 0; i-- {
		r.closers[i]()
	}
}

func (r *rig) openBucket(ctx context.Context) (err error) {
	r.s3, err = minio.New(strings.TrimPrefix(r.o.s3Endpoint, "http://"), &minio.Options{
		Creds:  credentials.NewStaticV4(r.o.s3Key, r.o.s3Secret, ""),
		Region: region,
	})
	if err != nil {
		return err
	}
	exists, err := r.s3.BucketExists(ctx, bucket)
	if err != nil || exists {
		return err
	}
	return r.s3.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: region})
}

// writeConfig writes what the operator would have mounted into the upload pod.
func (r *rig) writeConfig(ctx context.Context) error {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	password := hex.EncodeToString(random)
	role, err := r.db.EnsureUploadRole(ctx, tenantID, password)
	if err != nil {
		return err
	}
	dsn, err := r.db.UploadDSN(role, password)
	if err != nil {
		return err
	}
	data, err := tenantconfig.EncodeUpload(tenantconfig.Upload{
		Version:     tenantconfig.Version,
		ID:          tenantID,
		ExotelKey:   "key",
		ExotelToken: "token",
		ExotelAPI: "http://" +
			r.source.host,
		AllowedSourceHosts: []string{r.source.host},
		Storage: tenantconfig.Storage{
			Bucket:          bucket,
			Endpoint:        r.o.s3Endpoint,
			Region:          region,
			AccessKeyID:     secret.Sensitive(r.o.s3Key),
			SecretAccessKey: secret.Sensitive(r.o.s3Secret),
			Options:         objectstore.Options{Checksum: objectstore.ChecksumSHA256}, // as the operator finds out
		},
		KeyTemplate: "{{.CallSID}}-{{.RecordingID}}",
		DatabaseURL: secret.Sensitive(dsn),
	})
	if err != nil {
		return err
	}
	r.config = filepath.Join(r.dir, "config.json")
	return os.WriteFile(r.config, data, 0o600)
}

// runCaly queues a round's recordings (not measured) and measures one upload pod that drains them.
func (r *rig) runCaly(ctx context.Context, round int) (usage, error) {
	for i := range r.o.files {
		sid := fmt.Sprintf("caly%04d%06d", round, i)
		u := r.source.url(sid)
		if _, err := r.db.Enqueue(ctx, tenantID, sid, store.NewRecording{
			ID:        recording.ID(sid, u),
			SourceURL: u,
		}); err != nil {
			return usage{}, err
		}
	}
	before := r.source.served.Load()
	u, err := measure(ctx, r.o.caly, []string{"--config", r.config, "--concurrency", fmt.Sprint(r.o.parallel),
		"--idle-exit", "1ms", "--allow-http-sources", "--allowed-source-cidrs", "127.0.0.0/8",
		"--allow-http-storage", "--allowed-storage-cidrs", "127.0.0.0/8"}, nil)
	if err != nil {
		return u, err
	}
	return u, r.check(ctx, "bench/upload/caly", r.source.served.Load()-before)
}

// runRclone measures rclone over the same number of files of the same source.
func (r *rig) runRclone(ctx context.Context, round int) (usage, error) {
	var csv strings.Builder
	for i := range r.o.files {
		sid := fmt.Sprintf("rclone%04d%06d", round, i)
		fmt.Fprintf(&csv, "%s,%s.mp3\n", r.source.url(sid), sid)
	}
	list := filepath.Join(r.dir, "urls.csv")
	if err := os.WriteFile(list, []byte(csv.String()), 0o600); err != nil {
		return usage{}, err
	}
	before := r.source.served.Load()
	u, err := measure(
		ctx,
		r.o.rclone,
		[]string{"copyurl", "--urls", list, "bench:" + bucket + "/rclone", "--transfers", fmt.Sprint(r.o.parallel)},
		[]string{
			"RCLONE_CONFIG_BENCH_TYPE=s3",
			"RCLONE_CONFIG_BENCH_PROVIDER=Other",
			"RCLONE_CONFIG_BENCH_ENDPOINT=" + r.o.s3Endpoint,
			"RCLONE_CONFIG_BENCH_ACCESS_KEY_ID=" + r.o.s3Key,
			"RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY=" + r.o.s3Secret,
			"RCLONE_CONFIG_BENCH_REGION=" + region,
			"RCLONE_S3_NO_CHECK_BUCKET=true",
			"RCLONE_CONFIG=" + filepath.Join(r.dir, "none"),
		},
	)
	if err != nil {
		return u, err
	}
	return u, r.check(ctx, "rclone/", r.source.served.Load()-before)
}

// check counts a round's objects and removes them, so that no round finds its keys taken and the disk stays small.
func (r *rig) check(ctx context.Context, prefix string, served int64) error {
	if want := int64(r.o.files); served < want {
		return fmt.Errorf("%d of %d files were fetched", served, want)
	}
	n := 0
	for o := range r.s3.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if o.Size != int64(r.o.size) {
			return fmt.Errorf("%s has %d bytes, want %d", o.Key, o.Size, r.o.size)
		}
		if err := r.s3.RemoveObject(ctx, bucket, o.Key, minio.RemoveObjectOptions{}); err != nil {
			return err
		}
		n++
	}
	if n != r.o.files {
		return errors.New("the bucket holds " + fmt.Sprint(n) + " objects of the round, want " + fmt.Sprint(r.o.files))
	}
	return nil
}
