package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/recording"
)

type verifyOptions struct {
	ledger, endpoint, bucket, region, accessKeyFile, secretKeyFile, tenant string
}

func newSimulateVerifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare a bucket with the ledger of the calls that were placed",
		Args:  cli.NoArgs,
		Long: "Reads every object of the tenant and compares it with its source, byte for byte by SHA-256: each " +
			"recording must be there\nexactly once, and nothing else.",
		RunE: func(cmd *cobra.Command, _ []string) error { return verifyBucket(cmd, o) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.ledger, "ledger", "", "file that simulate call wrote")
	flags.StringVar(&o.tenant, "tenant", "", "namespace/name")
	flags.StringVar(&o.endpoint, "endpoint", "", "URL of the store")
	flags.StringVar(&o.bucket, "bucket", "", "the tenant's bucket")
	flags.StringVar(&o.region, "region", "us-east-1", "its region")
	flags.StringVar(&o.accessKeyFile, "access-key-file", "", "file with the access key id")
	flags.StringVar(&o.secretKeyFile, "secret-key-file", "", "file with the secret access key")
	return cmd
}

func verifyBucket(cmd *cobra.Command, o verifyOptions) error {
	if _, _, err := splitTenant(o.tenant); err != nil {
		return err
	}
	want, err := readLedger(o.ledger)
	if err != nil {
		return err
	}
	s3, err := openStore(o)
	if err != nil {
		return err
	}
	verified := 0
	problems := []string{}
	for obj := range s3.ListObjects(cmd.Context(), o.bucket, minio.ListObjectsOptions{
		Prefix:    recording.KeyPrefix(o.tenant),
		Recursive: true,
	}) {
		if obj.Err != nil {
			return fmt.Errorf("list %s: %w", o.bucket, obj.Err)
		}
		entry, ok := want[recordingOf(obj.Key)]
		if !ok {
			problems = append(problems, obj.Key+" is not a recording of the ledger, or is there twice")
			continue
		}
		delete(want, recordingOf(obj.Key))
		if err := compare(cmd.Context(), s3, o.bucket, obj.Key, entry); err != nil {
			problems = append(problems, err.Error())
			continue
		}
		verified++
	}
	total := verified + len(problems) + len(want)
	for _, e := range want {
		problems = append(problems, "the recording of call "+e.CallSID+" is not in the bucket")
	}
	for _, p := range problems {
		cmd.PrintErrln(p)
	}
	cmd.Printf("%d of %d recordings verified\n", verified, total)
	if len(problems) > 0 {
		return fmt.Errorf("%d differences between ledger and bucket", len(problems))
	}
	return nil
}

// recordingOf is the recording's id in a key made from the default template: what stands between the last '-' and the dot.
func recordingOf(key string) string {
	base := key[strings.LastIndexAny(key, "/-")+1:]
	id, _, _ := strings.Cut(base, ".")
	return id
}

func readLedger(file string) (map[string]ledgerEntry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	defer func() { _ = f.Close() }()
	entries := map[string]ledgerEntry{}
	scanner := bufio.NewScanner(f)
	for scanner.Scan() {
		var e ledgerEntry
		if err := json.Unmarshal(scanner.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
		if e.SourceURL != "" {
			entries[recording.ID(e.CallSID, e.SourceURL)] = e
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	if len(entries) == 0 {
		return nil, errors.New("the ledger names no recording: place calls with --recordings-base-url")
	}
	return entries, nil
}

func openStore(o verifyOptions) (*minio.Client, error) {
	address, err := url.Parse(o.endpoint)
	if err != nil || address.Host == "" {
		return nil, errors.New("--endpoint must be the URL of the store")
	}
	access, err := readLine(o.accessKeyFile)
	if err != nil {
		return nil, err
	}
	secret, err := readLine(o.secretKeyFile)
	if err != nil {
		return nil, err
	}
	return minio.New(address.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(access, secret, ""),
		Secure: address.Scheme == "https",
		Region: o.region,
	})
}

func compare(ctx context.Context, s3 *minio.Client, bucket, key string, e ledgerEntry) error {
	obj, err := s3.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	defer func() { _ = obj.Close() }()
	hash := sha256.New()
	n, err := io.Copy(hash, obj)
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); n != e.Size || got != e.SHA256 {
		return fmt.Errorf("%s differs from its source: %d bytes, want %d", key, n, e.Size)
	}
	return nil
}
