// Lets a text area be as tall as its text.
import type { Attachment } from 'svelte/attachments';

export const grow =
  (text: () => string): Attachment<HTMLTextAreaElement> =>
  (area) => {
    $effect(() => {
      text();
      area.style.height = 'auto';
      // The border is outside of scrollHeight.
      area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
    });
  };
