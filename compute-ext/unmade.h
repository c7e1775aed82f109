/* Relations whose files are not made yet, for statements that ask whether a directory is empty. */
#ifndef LOCH_EXT_UNMADE_H
#define LOCH_EXT_UNMADE_H

#include "postgres.h"

#include "nodes/nodes.h"

/* ALTER DATABASE ... SET TABLESPACE, CREATE DATABASE ... TABLESPACE, DROP TABLESPACE: they destroy,
 * or overlook, what lies in a directory that they find empty. */
bool loch_unmade_matters(const Node *stmt);
/* Before such a statement: when the pageserver has relations where it will look, a file stands in
 * for theirs, so that the server refuses, in its own order and words. */
void loch_unmade_stand_in(const Node *stmt);
/* After it, however it ended. */
void loch_unmade_remove(void);
/* When it ended in an error, its locks still held: a move whose copy the server has removed again
 * is removed from storage too, where its record had brought it; else that tablespace would hold
 * relations that nobody can see, move or drop. */
void loch_unmade_take_back(void);

#endif
