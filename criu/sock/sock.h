/* SPDX-License-Identifier: GPL-2.0-only */
/* Sockets: what the stages of a dump and a restore call. Kinds of sockets have rows in fd/kinds.c. */
#pragma once

#include "dump/model.h"
#include "restore/model.h"

/* Dump, when all tasks were looked at: adds a blocker for each socket that has to do with one outside of the tree. */
void sock_look_tree(struct dump *d);

/* Dump, frozen, when all tasks are collected: which sockets the areas of rings (mem_each_socket()) belong to. */
int packet_collect_mapped(struct dump *d, struct ckpt_error *err);

/* Dump, after the look stage: has it seen connections that are to be read? */
bool sock_will_read(const struct dump *d);

/* Dump, frozen, before fd_collect(): where connections were seen, list them and start what reads them. */
int sock_prepare(struct dump *d, struct ckpt_error *err);

/*
 * Dump, frozen, after fd_collect() of all tasks: hold back the packets of connections with the world outside, then
 * read all connections and write their tcp-stream images. d->set exists.
 */
int sock_collect(struct dump *d, struct ckpt_error *err);

/* The tree will run on: let the packets through again. Before it is thawed. Safe at any time, more than once. */
void sock_undo(struct dump *d);

/*
 * The tree is about to be killed, each step in its place: before the guard that completes a killing is armed;
 * then with it armed, so that connections die without a word to their peers.
 */
int sock_before_kill(struct dump *d, struct ckpt_error *err);
int sock_silence(struct dump *d, struct ckpt_error *err);

/* The tree is dead: end its connections. */
void sock_after_kill(struct dump *d);

/* At the end, whatever became of it. After a tree was killed, its network lock stays. */
void sock_dump_free(struct dump *d);

/* Unix sockets: who is connected with whom, and their queues. */
int unix_collect(struct dump *d, struct ckpt_error *err);

/* Restore, loaded: bytes that a mapping of this file has; 0: it is no packet socket with rings. */
uint64_t packet_mapping_size(const struct restore *r, uint32_t id);

/* ... and if it is one, do the images tell where the kernel was in them? */
bool packet_place_is_known(const struct restore *r, uint32_t id);

/*
 * Restore, when all tasks exist and none has its descriptors yet: make the unix sockets, each by the process that the
 * other end takes for its maker. When all files are open: what is in their queues.
 */
int unix_build(struct restore *r, struct ckpt_error *err);
int unix_fill(struct restore *r, struct ckpt_error *err);

/* The restore has succeeded: paths stay. */
void unix_settled(struct restore *r);

/*
 * Restore, when the tree is complete, and just before it runs: queues of connections, closing states; then the network
 * lock goes and each connection says its first word.
 */
int sock_restore(struct restore *r, struct ckpt_error *err);
int sock_resume(struct restore *r, struct ckpt_error *err);
