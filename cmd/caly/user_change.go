package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/caly-dev/caly/cmd/internal/cli"
	"github.com/caly-dev/caly/internal/store"
)

func newUserDisableCommand(o *userOptions) *cobra.Command {
	cmd := userChange(o, func(cmd *cobra.Command, db *store.Operator, u store.User) (string, error) {
		_, err := db.SetUserDisabled(cmd.Context(), o.tenant, store.AccessChange{
			UserID:   u.ID,
			Disabled: true,
		}, store.Origin{})
		return "disabled, and signed out everywhere", err
	})
	cmd.Use = "disable EMAIL"
	cmd.Short = "Keep somebody from signing in, and end all sessions"
	return cmd
}

func newUserEnableCommand(o *userOptions) *cobra.Command {
	cmd := userChange(o, func(cmd *cobra.Command, db *store.Operator, u store.User) (string, error) {
		_, err := db.SetUserDisabled(cmd.Context(), o.tenant, store.AccessChange{UserID: u.ID}, store.Origin{})
		return "enabled", err
	})
	cmd.Use = "enable EMAIL"
	cmd.Short = "Let somebody sign in again who was disabled"
	return cmd
}

func newUserRevokeCommand(o *userOptions) *cobra.Command {
	cmd := userChange(o, func(cmd *cobra.Command, db *store.Operator, u store.User) (string, error) {
		n, err := db.RevokeUser(cmd.Context(), o.tenant, u.ID, nil, store.Origin{})
		return fmt.Sprintf("signed out everywhere: %d sessions were ended", n), err
	})
	cmd.Use = "revoke EMAIL"
	cmd.Short = "End all sessions of somebody, who may sign in again"
	return cmd
}

// userChange is a command that does something to the user of an email, and says what it did.
func userChange(o *userOptions, do func(*cobra.Command, *store.Operator, store.User) (string, error)) *cobra.Command {
	return &cobra.Command{
		Args: oneEmail,
		RunE: func(cmd *cobra.Command, args []string) error {
			email, err := parseEmail(args[0])
			if err != nil {
				return err
			}
			db, err := o.open(cmd)
			if err != nil {
				return err
			}
			defer db.Close()
			user, err := db.UserByEmail(cmd.Context(), o.tenant, email)
			if errors.Is(err, store.ErrNotFound) {
				return fmt.Errorf("%s has no account of %s: caly user list shows those that it has", o.tenant, email)
			}
			if err != nil {
				return err
			}
			done, err := do(cmd, db, user)
			if err == nil {
				cmd.Printf("%s of %s: %s\n", email, o.tenant, done)
			}
			return err
		},
	}
}

// oneEmail is the argument check of commands that take one email.
func oneEmail(_ *cobra.Command, args []string) error {
	if len(args) != 1 {
		return cli.UsageError(nil, fmt.Errorf("one email is needed, and %d are given", len(args)))
	}
	return nil
}
