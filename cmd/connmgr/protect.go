package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/dep2p/connmgr/cmd/internal/client"
	"github.com/dep2p/connmgr/connmgrhttp/api"
	"github.com/spf13/cobra"
)

// This file is "connmgr protect" and "connmgr unprotect".

// operatorTag is the tag under which operators protect who name no other.
const operatorTag = "operator"

const protectLong = `A protected peer is closed by no trim but a forced one, connected or not: the protection
outlives its connections, until the node ends. A peer can be protected under several
tags, by programs too, and is so as long as one of them is left.

` + peerHelp

func newProtect() *cobra.Command {
	o := new(online)
	var tag string
	cmd := &cobra.Command{
		Use:   "protect PEER",
		Short: "Keep a peer from being trimmed",
		Long:  "Protects a peer. " + protectLong,
		Example: `  connmgr protect 12D3KooWGRUVh7fxNMcSUBXUbVZmxRsZLi5rUJJbXbDKXZQUKVSq
  connmgr protect …XZQUKVSq --tag bootstrap`,
		Args:              onePeer,
		ValidArgsFunction: o.completePeer,
	}
	cmd.Flags().StringVar(&tag, "tag", operatorTag, "the tag under which it is protected")
	complete(cmd, "tag", cobra.NoFileCompletions)
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		peer, err := peerAndTag(cmd, c, args[0], tag)
		if err != nil {
			return err
		}
		answer, err := c.Protect(cmd.Context(), peer, tag)
		if err != nil {
			return err
		}
		return show(o, cmd, answer, writeProtections)
	})
	return cmd
}

func newUnprotect() *cobra.Command {
	o := new(online)
	var (
		tag string
		all bool
	)
	cmd := &cobra.Command{
		Use:   "unprotect PEER",
		Short: "Take a protection back",
		Long: `Takes back the protection of a peer under one tag, or under all. Programs that protect a
peer under a tag of their own may do it again.

` + peerHelp,
		Example: `  connmgr unprotect …XZQUKVSq
  connmgr unprotect …XZQUKVSq --tag bootstrap
  connmgr unprotect …XZQUKVSq --all`,
		Args:              onePeer,
		ValidArgsFunction: o.completePeer,
	}
	cmd.Flags().StringVar(&tag, "tag", operatorTag, "the tag under which it is protected")
	cmd.Flags().BoolVar(&all, "all", false, "under all tags")
	cmd.MarkFlagsMutuallyExclusive("all", "tag")
	complete(cmd, "tag", cobra.NoFileCompletions)
	o.flags(cmd)
	cmd.RunE = o.ask(func(cmd *cobra.Command, c *client.Client, args []string) error {
		peer, err := peerAndTag(cmd, c, args[0], tag)
		if err != nil {
			return err
		}
		tags := []string{tag}
		if all {
			if tags, err = protectionsOf(cmd, c, peer); err != nil {
				return err
			}
		}
		var answer client.Answer[api.Protections]
		for _, tag := range tags {
			if answer, err = c.Unprotect(cmd.Context(), peer, tag); err != nil {
				return err
			}
		}
		return show(o, cmd, answer, writeProtections)
	})
	return cmd
}

// protectionsOf returns the tags under which a peer is protected.
func protectionsOf(cmd *cobra.Command, c *client.Client, peer string) ([]string, error) {
	answer, err := c.Peer(cmd.Context(), peer, "")
	if err != nil {
		return nil, err
	}
	p, err := answer.Document()
	if err != nil {
		return nil, err
	}
	if len(p.Protections) == 0 {
		return nil, &notFoundError{fmt.Sprintf("%s is not protected", plainText(peer))}
	}
	return p.Protections, nil
}

// peerAndTag returns the full name of the peer that is meant; the tag must not be empty.
func peerAndTag(cmd *cobra.Command, c *client.Client, peer, tag string) (string, error) {
	if tag == "" {
		return "", misused("the tag is empty, want a name")
	}
	return findPeer(cmd.Context(), c, peer)
}

func writeProtections(out io.Writer, p *api.Protections) error {
	if len(p.Protections) == 0 {
		_, err := fmt.Fprintf(out, "%s is not protected\n", plainText(p.Peer))
		return err
	}
	var tags []string
	for _, tag := range p.Protections {
		tags = append(tags, plainText(tag))
	}
	_, err := fmt.Fprintf(out, "%s is protected under %s\n", plainText(p.Peer), strings.Join(tags, ", "))
	return err
}
