package main

import (
	"context"
	"fmt"
	"time"

	"github.com/minio/minio-go/v7"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
)

// pipeline queues all recordings in one transaction and waits until every one is uploaded, and then shown.
func (r *rig) pipeline(ctx context.Context) (figures, error) {
	if err := r.prepare(ctx); err != nil {
		return figures{}, err
	}
	f, err := r.measure(ctx, r.o.recordings, func() (shown, took time.Duration, err error) {
		if err := r.queue(ctx); err != nil {
			return 0, 0, err
		}
		start := time.Now()
		if err := r.until(ctx, func() (bool, error) { return r.uploaded(ctx) }); err != nil {
			return 0, 0, err
		}
		took = time.Since(start)
		err = r.until(ctx, func() (bool, error) { return r.settled(ctx) })
		return time.Since(start), took, err
	})
	if err != nil {
		return f, err
	}
	var list v1alpha1.CallRecordingList
	if err := r.c.List(ctx, &list, client.InNamespace(r.name)); err != nil {
		return f, err
	}
	f.views = len(list.Items)
	return f, r.verify(ctx)
}

func (r *rig) queue(ctx context.Context) error {
	sids, ids, urls := make([]string, r.o.recordings), make([]string, r.o.recordings), make([]string, r.o.recordings)
	for i := range sids {
		sids[i] = fmt.Sprintf("bench%s%06d", r.name[6:], i)
		urls[i] = exotelsim.RecordingURL(r.source.URL(), "bench", sids[i], int64(r.o.size))
		ids[i] = recording.ID(sids[i], urls[i])
	}
	_, err := r.db.Exec(
		ctx,
		`SELECT caly_add_recording($1, s, i, u, now()) FROM unnest($2::text[], $3::text[], $4::text[]) AS x(s, i, u)`,
		r.name+"/bench",
		sids,
		ids,
		urls,
	)
	return err
}

func (r *rig) uploaded(ctx context.Context) (bool, error) {
	var uploaded, failed int
	err := r.db.QueryRow(
		ctx,
		`SELECT count(*) FILTER (WHERE state = 'uploaded'), count(*) FILTER (WHERE state = 'failed')
		FROM recording_history WHERE tenant = $1`,
		r.name+"/bench",
	).Scan(&uploaded, &failed)
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d recordings failed", failed)
	}
	return uploaded == r.o.recordings, err
}

// settled tells whether no CallRecording says anything but Uploaded any more.
func (r *rig) settled(ctx context.Context) (bool, error) {
	var list v1alpha1.CallRecordingList
	if err := r.c.List(ctx, &list, client.InNamespace(r.name)); err != nil {
		return false, err
	}
	for i := range list.Items {
		if list.Items[i].Status.Phase != v1alpha1.RecordingPhaseUploaded {
			return false, nil
		}
	}
	return true, nil
}

// verify counts the objects and their lengths; what is in them was verified by the upload.
func (r *rig) verify(ctx context.Context) error {
	n := 0
	for o := range r.s3.ListObjects(ctx, r.name, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			return o.Err
		}
		if o.Size != int64(r.o.size) {
			return fmt.Errorf("%s has %d bytes, want %d", o.Key, o.Size, r.o.size)
		}
		n++
	}
	if n != r.o.recordings {
		return fmt.Errorf("the bucket holds %d objects, want %d", n, r.o.recordings)
	}
	return nil
}
