/* Memory of libraries that see plaintext keys on the way (JSON, HTTP): wiped when it is freed. */
#ifndef LOCH_KMS_WIPED_H
#define LOCH_KMS_WIPED_H

#include "loch/base/buf.h"

/* Makes jansson and libcurl wipe what they free, in this whole process. Any number of times. */
void kms_wiped_setup(void);
void kms_wiped_free(void *p);
char *kms_wiped_strdup(const char *text); /* NULL: no memory */
/* Wipes and frees. */
void kms_wiped_buf_fini(struct loch_buf *buf);

#endif
